"""Chinese words of search queries: what people call colours and categories, and how they ask."""

from mercato_shop.words.shape import QueryWords

QUERIES = QueryWords(
    colours={
        "black": ("乌黑", "墨色"), "white": ("雪白", "象牙色"), "grey": ("烟灰", "铁灰"),
        "red": ("大红", "酒红"), "blue": ("天蓝", "宝蓝"), "navy": ("深蓝", "海军蓝"),
        "green": ("墨绿", "翠绿"), "olive": ("橄榄色", "卡其绿"), "yellow": ("鹅黄", "柠檬色"),
        "orange": ("橘红", "橘子色"), "pink": ("粉红", "樱花色"), "purple": ("紫罗兰", "薰衣草色"),
        "brown": ("咖啡色", "巧克力色"), "beige": ("杏色", "奶油色"), "teal": ("青绿", "湖蓝"),
    },
    kinds={
        "shoes": ("鞋子",), "shirts": ("衣服",), "bags": ("包包",), "mugs": ("杯子",), "lamps": ("照明",),
        "watches": ("腕表",), "headphones": ("耳麦",), "chairs": ("座椅",), "bottles": ("水瓶",),
        "umbrellas": ("雨具",),
    },
    patterns={
        "item+colour": ("{colour}{item}", "{item} {colour}", "想买{colour}的{item}"),
        "kind+colour": ("{colour}{kind}", "{kind} {colour}", "有没有{colour}的{kind}"),
        "item+material": ("{material}{item}", "{item} {material}", "{material}做的{item}"),
        "item": ("{item}", "想买{item}", "送朋友的{item}"),
        "alike+material": ("同款{material}", "类似的，要{material}", "{material}"),
        "alike+item": ("这个颜色的{item}", "类似的{item}", "{item}"),
    },
)  # fmt: skip
