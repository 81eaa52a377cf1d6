"""English text of the data card, with places for numbers and tables."""

from mercato_shop.words.shape import CardWords

PAGE = """\
SYNTHETIC DATA: everything in this folder was made up by a program; no person, shop, brand or sale in it exists.

# A synthetic shop, in English

`mercato data shop --language en --products {products} --users {users} --seed {seed}` wrote this folder.
The same command with the same versions ({tools}) writes the same bytes.
`card.json` holds the same facts for machines.
The data are dedicated to the public domain under CC0 1.0: use them for anything.

Every signal was planted with the numbers below, so that a model can be held against the truth.
Nothing here says anything about real shops, products, people or markets.

## Files

{files}

Prices and amounts are in {currency}.
Times are UTC and have no zone; interactions, messages and sales lie in 2025.

## Columns

{columns}

## Interactions

Each product and each user has a direction in {interactions[factors]} hidden dimensions.
A product's is {interactions[category_weight]} times that of its category plus {interactions[own_weight]} \
times one of its own.
A user's starts near the sum of {interactions[favourites]} categories, with a direction of its own of weight \
{interactions[own_taste]}.
It drifts: from month to month it keeps a correlation of about {interactions[monthly_correlation]}.
Popularity is Zipf-like: the product of rank r has a weight of (r + {interactions[zipf_offset]:g}) ** \
-{interactions[zipf_exponent]}.
A user chooses among at most {interactions[shown]} products. Where the shop has more than \
{interactions[shelf]}, those shown are drawn by weight ** {interactions[shelf_power]}, and the log odds of a \
choice are {interactions[strength]:g} times the cosine of product and taste, plus \
{interactions[rest_power]:g} times the logarithm of the weight; else all are shown, and the logarithm counts \
in full.
Each user has {interactions[fewest]} to {interactions[most]} interactions, no product twice.
An interaction is a purchase with probability sigmoid({interactions[purchase_base]} + \
{interactions[purchase_slope]} * cosine), a cart in {interactions[cart_share]:.0%} of the other cases, else \
a view; the one that fits a user best is a purchase.

## Reviews

Reviews follow purchases, 2 to 21 days later.
Reviews are ordered by {reviews[rating_quality]} times the product's hidden quality plus {reviews[rating_fit]:g} \
times the cosine of product and taste plus noise (quality and noise have deviation 1); from the lowest, \
{reviews[stars]} have 1, 2, 3, 4 and 5 stars.
1 and 2 stars are negative, 3 neutral, 4 and 5 positive.
A text has one to four phrases; each is drawn from another sentiment with probability \
{reviews[foreign_phrases]:.0%}.
In {reviews[contrasts][positive]:.0%} of positive and {reviews[contrasts][negative]:.0%} of negative reviews \
the first phrase is a contrast that ends on the review's own side, in {reviews[contrasts][neutral]:.0%} of \
neutral ones it ends on either.
A reader who knows each phrase's sentiment and these numbers is right in {reviews[best_accuracy]:.1%} of \
cases; from the text alone nobody can do better.
{reviews[mistyped]:.0%} of the texts have slips of the keyboard.

## Messages

{intents}

{messages[ambiguous]:.0%} of the messages ask what two intents could ask, and {messages[vague]:.0%} what any \
could.
A reader who knows all templates is right in {messages[best_accuracy]:.1%} of cases at best.
{messages[mistyped]:.0%} of the texts have slips of the keyboard.

## Personal data

{reviews[personal]:.0%} of the reviews and {messages[personal]:.0%} of the messages give away made-up \
personal data, for masking to find: e-mail addresses under example.com, .org and .net, telephone numbers \
kept for fiction, and card numbers from test ranges with a right check digit.
Planted: {planted}.

## Sales

{weeks} weeks for each of {sold} products, beginning at random in the year.
Units are Poisson with gamma noise of shape {sales[gamma_shape]:g} (variance = mean + mean² / \
{sales[gamma_shape]:g}); the logarithm of the mean is the sum of

- the logarithm of the category's units at its middle price,
- the category's elasticity times log(price / middle price),
- log({sales[promotion_lift]}) in a promotion, which {sales[promotion_share]:.0%} of the rows are, and which \
also cuts the price,
- the logarithm of the factor for category and season,
- {sales[rating_effect]} times (rating - 4),
- an effect of the brand (deviation {sales[brand_spread]}) and one of the product (deviation \
{sales[product_spread]}).

{demand}

Missing at random: {sales[missing][rating_mean]:.0%} of `rating_mean`, {sales[missing][stock]:.0%} of \
`stock`, {sales[missing][category]:.0%} of `category`.
The mean rating is {sales[rating]} plus {sales[rating_quality]} times the hidden quality, with a deviation of \
{sales[rating_spread]} from week to week; it is not computed from the reviews, which follow the same quality.
Stock is {sales[stock][0]} to {sales[stock][1]:g} weeks of demand, and never limits sales.
"""

CARD = CardWords(
    page=PAGE,
    files_head=("file", "rows", "bytes"),
    columns_head=("column", "meaning"),
    intents_head=("intent", "share"),
    demand_head=("category", "elasticity", "units", "middle price"),
    columns={
        "products.parquet": {
            "product_id": "such as p000123",
            "name": "brand, series, thing, colour and material",
            "category": "one of ten",
            "brand": "made up",
            "colour": "one of fifteen",
            "material": "what it is made of",
            "price": "list price",
            "description": "two or three sentences",
            "image": "path of the picture, 96 x 96 pixels, RGB",
        },
        "users.parquet": {
            "user_id": "such as u000045",
            "joined": "time of registration, 2022 to 2024",
            "city": "city",
        },
        "interactions.parquet": {
            "user_id": "who",
            "product_id": "what",
            "event": "view, cart or purchase: how far it went",
            "time": "when; rows are sorted by user and time",
        },
        "reviews.parquet": {
            "review_id": "such as r0000001",
            "user_id": "who bought the product",
            "product_id": "the product",
            "rating": "1 to 5 stars",
            "sentiment": "negative, neutral or positive, from the rating",
            "text": "the review",
            "time": "when; rows are sorted by it",
        },
        "messages.parquet": {
            "message_id": "such as m0000001",
            "user_id": "who wrote",
            "text": "the message",
            "intent": "one of ten",
            "time": "when; rows are sorted by it",
        },
        "sales.parquet": {
            "sale_id": "such as s0000001",
            "week": "the Monday of the week",
            "product_id": "the product",
            "category": "its category, sometimes missing",
            "brand": "its brand",
            "price": "what it cost in that week",
            "list_price": "its list price",
            "promotion": "whether it was promoted",
            "season": "spring (March to May), summer, autumn or winter, by the Monday",
            "rating_mean": "its mean rating, sometimes missing",
            "stock": "items in stock, sometimes missing",
            "units": "items sold",
        },
    },
)
