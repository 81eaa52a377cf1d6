"""English words of reviews: clauses by aspect and sentiment, verdicts with intensifiers and denials, contrasts."""

from collections.abc import Mapping

from mercato_shop.words.shape import Marks, Phrases, ReviewWords, Verdicts

ASPECTS: Mapping[str, Mapping[str, Phrases]] = {
    "delivery": {
        "positive": (
            "arrived two days early",
            "delivery took barely a day",
            "the parcel came sooner than promised",
            "shipping was quick and easy to follow",
            "the courier was friendly and on time",
            "ordered on Monday and had it on Tuesday",
            "here the next morning",
        ),
        "negative": (
            "delivery took almost three weeks",
            "the parcel arrived late and dented",
            "the courier left the box in the rain",
            "the tracking page never changed and nobody knew where it was",
            "it was sent to the wrong depot first",
            "shipping was painfully slow",
            "had to chase the parcel twice",
        ),
        "neutral": (
            "it arrived on the promised day",
            "delivery took the usual four days",
            "the parcel came with the ordinary post",
            "shipping was neither quick nor slow",
            "a neighbour signed for it",
            "collected it from the parcel shop",
        ),
    },
    "quality": {
        "positive": (
            "the quality is better than I dared to hope",
            "every detail is neat",
            "you can tell that somebody cared",
            "the workmanship is first rate",
            "built to last",
            "no flaw anywhere, and I looked",
        ),
        "negative": (
            "it fell apart after a week",
            "the quality is a joke",
            "something came loose on the first day",
            "I found three faults before lunch",
            "it looks second-hand",
            "the finish is rough and full of scratches",
            "broke the second time I used it",
        ),
        "neutral": (
            "the quality is what you would expect",
            "the workmanship is average",
            "neither sturdy nor fragile",
            "a few small marks, nothing serious",
            "quality is in line with the others I had",
            "made like most of them",
        ),
    },
    "size": {
        "positive": (
            "the size is spot on",
            "the measurements on the page are exact",
            "just the right size for me",
            "it is roomier than it looks, which I like",
            "true to size",
            "the proportions are perfect",
        ),
        "negative": (
            "far smaller than the pictures suggest",
            "the size chart is wrong",
            "much too big and no way to adjust it",
            "the measurements are off by centimetres",
            "does not fit at all",
            "comes up tiny",
        ),
        "neutral": (
            "the size is as described",
            "a little larger than my old one",
            "about medium, I would say",
            "size is the same as the previous model",
            "I measured it and the page is roughly right",
            "one size up from my usual",
        ),
    },
    "price": {
        "positive": (
            "worth every penny",
            "a bargain at this price",
            "I would have paid more",
            "you will not find better for the money",
            "good value",
            "cheaper than in town and nicer too",
        ),
        "negative": (
            "far too expensive for what it is",
            "not worth half the price",
            "the price dropped the day after I paid",
            "a waste of money",
            "overpriced",
            "you pay for the name and nothing else",
        ),
        "neutral": (
            "the price is about what others ask",
            "bought it in the sale",
            "neither cheap nor dear",
            "the price is in the usual range",
            "paid with a gift card",
            "costs the same everywhere",
        ),
    },
    "packaging": {
        "positive": (
            "beautifully packed",
            "the box alone would make a present",
            "packed so well that nothing could happen",
            "no plastic in the parcel, which I appreciate",
            "wrapped with care",
        ),
        "negative": (
            "the box was crushed",
            "packed in a thin bag with no padding",
            "a mountain of plastic for one small thing",
            "the packaging was open and taped up again",
            "it rattled around loose in a huge carton",
        ),
        "neutral": (
            "the packaging is plain cardboard",
            "it comes in an ordinary box",
            "packed like everything else",
            "the box can be folded flat",
            "a leaflet in six languages is included",
        ),
    },
    "colour": {
        "positive": (
            "the {colour} is even nicer in daylight",
            "the colour is rich and deep",
            "everyone asks about the colour",
            "the {colour} matches everything I own",
            "the colour has not faded one bit",
        ),
        "negative": (
            "the {colour} looks nothing like the photo",
            "the colour rubbed off on my hands",
            "it faded after two weeks",
            "the {colour} is dull and patchy",
            "they sent another colour than I ordered",
        ),
        "neutral": (
            "the {colour} is a shade darker than on my screen",
            "the colour is as shown",
            "I took {colour} because the others were sold out",
            "the colour depends on the light",
            "the {colour} is just {colour}",
        ),
    },
    "comfort": {
        "positive": (
            "so comfortable that I forget about it",
            "a pleasure to use every day",
            "light and handy",
            "it feels right from the first minute",
            "even after hours it is a joy",
        ),
        "negative": (
            "uncomfortable after ten minutes",
            "awkward to use with one hand",
            "it pinches and scratches",
            "heavy and clumsy",
            "my arm hurts after using it",
        ),
        "neutral": (
            "takes a few days to get used to",
            "comfort is middling",
            "handles like any other",
            "a bit stiff in the beginning, then normal",
            "neither light nor heavy",
        ),
    },
    "service": {
        "positive": (
            "support answered within minutes",
            "a small problem was solved at once",
            "they sent a replacement without asking questions",
            "the people on the phone were kind and patient",
            "a handwritten note came with it, charming",
        ),
        "negative": (
            "customer service never replied",
            "they blamed me for the damage",
            "five messages and still no answer",
            "the return was a nightmare",
            "rude people on the phone",
        ),
        "neutral": (
            "wrote to support once and got a standard answer",
            "the return label was in the parcel",
            "service answered after two days",
            "I did not need the service",
            "registered it for the guarantee",
        ),
    },
    "material": {
        "positive": (
            "the {material} feels wonderful",
            "lovely thick {material}",
            "the {material} gets nicer with use",
            "the {material} is easy to clean",
            "no smell at all, the {material} is top",
        ),
        "negative": (
            "the {material} feels cheap",
            "a chemical smell that will not go away",
            "the {material} is paper thin",
            "the {material} stains if you look at it",
            "I doubt that this is {material}",
        ),
        "neutral": (
            "the {material} is what the label says",
            "the {material} is medium thick",
            "wipe the {material} with a damp cloth, says the leaflet",
            "the {material} is neither soft nor hard",
            "you have to like {material}",
        ),
    },
    "looks": {
        "positive": (
            "even prettier than in the pictures",
            "I get compliments every time",
            "simple and elegant",
            "looks twice as expensive as it was",
            "it brightens up my day",
        ),
        "negative": (
            "the pictures are flattering, to put it kindly",
            "looks like a toy",
            "the logo is huge and crooked",
            "ugly seams where you can see them",
            "it looks worn out already",
        ),
        "neutral": (
            "looks like on the picture",
            "the design is plain",
            "a matter of taste, I suppose",
            "it is a classic shape",
            "the logo is small and at the back",
        ),
    },
}

VERDICTS = {
    "positive": Verdicts(
        adjectives=(
            "lovely", "excellent", "well made", "brilliant", "great", "superb", "gorgeous", "sturdy", "practical",
            "impressive", "solid", "perfect", "delightful", "fantastic", "clever", "charming",
        ),
        denials=(
            "not disappointed at all", "nothing flimsy about it", "I cannot say anything bad about it",
            "no complaints whatsoever", "never had a problem with it", "anything but boring",
            "not once did it let me down", "I was afraid it would be shoddy, it is not",
        ),
        closers=(
            "would buy it again", "recommended to anyone who asks", "five stars from me", "my sister ordered one too",
            "I am keeping it for ever", "thank you, well done", "already ordered a second one", "very happy",
            "exactly what I was looking for", "could not be better",
        ),
    ),
    "negative": Verdicts(
        adjectives=(
            "awful", "flimsy", "disappointing", "terrible", "useless", "cheap-looking", "shoddy", "poor",
            "unpleasant", "unreliable", "ugly", "dreadful", "faulty", "frustrating", "clumsy", "underwhelming",
        ),
        denials=(
            "not good at all", "nowhere near as lovely as the pictures", "far from perfect",
            "I would not call it solid",
            "not happy with it", "nothing great about it", "it never worked well",
            "hardly the excellent thing I read about",
        ),
        closers=(
            "I want my money back", "going straight back", "never again", "save your money",
            "two weeks later it is in the bin", "cannot recommend it", "one star is one too many",
            "I expected so much more", "look elsewhere", "what a pity",
        ),
    ),
    "neutral": Verdicts(
        adjectives=(
            "average", "ordinary", "acceptable", "decent enough", "fine", "so-so", "okay", "passable", "middling",
            "standard", "unremarkable", "adequate", "all right",
        ),
        denials=(
            "not great, not terrible", "neither good nor bad", "nothing special", "not lovely but not ugly either",
            "no reason to cheer and none to complain", "I neither love nor hate it",
        ),
        closers=(
            "it does the job", "I might keep it", "let us see how it holds up", "no strong feelings either way",
            "three stars seem fair", "ask me again in a year", "it is what it is",
            "would look around before buying again",
        ),
    ),
}  # fmt: skip

REVIEWS = ReviewWords(
    aspects=ASPECTS,
    verdicts=VERDICTS,
    patterns=(
        "{this} is {how}", "I find it {how}", "overall {how}", "{how} from the first day", "in one word: {how}",
        "everyone at home calls it {how}", "it turned out {how}", "{this} from {brand} is {how}", "{how}",
        "to me it is {how}",
    ),
    strong=("really", "very", "truly", "absolutely", "incredibly", "extremely", "so", "honestly"),
    mild=("fairly", "quite", "rather", "pretty", "reasonably"),
    contrasts={
        "positive": (
            "{first}, but {second}", "{first}; still, {second}", "{first}, yet {second}",
            "{first} - then again, {second}", "on the one hand {first}, on the other {second}",
            "{first}, luckily {second}",
        ),
        "negative": (
            "{first}, but {second}", "{first}; still, {second}", "{first}, however {second}",
            "{first} - sadly, {second}", "on the one hand {first}, on the other {second}", "{first}, only {second}",
        ),
    },
    facts=(
        "bought it for {person}", "had it for {number} weeks now", "I ordered the {colour} one",
        "use it about {number} times a week", "this is the second thing I have from {brand}",
        "{person} picked it", "I had looked for {alias} for a while", "it replaces one that I had for {number} years",
        "I use it mostly at weekends", "saw it at a friend's first", "it was a present from {person}",
        "read {number} reviews before I ordered",
    ),
    people=(
        "my mother", "my father", "my wife", "my husband", "my daughter", "my son", "a colleague", "my best friend",
        "my grandmother", "my flatmate", "my brother", "the neighbours",
    ),
    marks=Marks(
        between=(". ", ". ", ". ", "! ", ", and ", "; ", ", "),
        end=(".", ".", ".", "!", "", " :)"),
        space=" ",
        capitals=True,
    ),
)  # fmt: skip
