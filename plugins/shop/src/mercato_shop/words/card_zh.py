"""Chinese text of the data card, with places for numbers and tables."""

from mercato_shop.words.shape import CardWords

PAGE = """\
SYNTHETIC DATA: everything in this folder was made up by a program; no person, shop, brand or sale in it exists.

# 合成商店（中文）

本文件夹的全部内容由程序合成：其中的人、店铺、品牌和交易都不存在。
生成命令：`mercato data shop --language zh --products {products} --users {users} --seed {seed}`。
在相同版本（{tools}）下，同样的命令写出的文件逐字节一致。
`card.json` 以机器可读的形式记录同样的内容。
数据以 CC0 1.0 放弃全部权利，可用于任何用途。

所有信号都按下面的数字埋入，模型的结果可以直接与真值对照。
这里的数据不反映任何真实的店铺、商品、人群或市场。

## 文件

{files}

价格和金额的单位是人民币元（{currency}）。
时间为 UTC，不带时区；浏览、咨询和销售都在 2025 年内。

## 各列含义

{columns}

## 浏览与购买

每件商品、每位用户在 {interactions[factors]} 维隐空间里各有一个方向。
商品的方向 = {interactions[category_weight]} × 品类方向 + {interactions[own_weight]} × 自身方向。
用户的方向从 {interactions[favourites]} 个品类方向之和附近出发，再加上权重为 {interactions[own_taste]} 的自\
身方向。
口味会缓慢漂移：相邻两个月的相关系数约为 {interactions[monthly_correlation]}。
热度近似 Zipf 分布：排名 r 的商品权重为 (r + {interactions[zipf_offset]:g}) ** -{interactions[zipf_exponent]}。
每位用户最多在 {interactions[shown]} 件商品里选择。商品总数超过 {interactions[shelf]} 时，展示的商品按权重的 \
{interactions[shelf_power]} 次方抽取，选中的对数几率 = {interactions[strength]:g} × 商品与口味的余弦 + \
{interactions[rest_power]:g} × 权重的对数；否则全部展示，权重的对数全额计入。
每位用户有 {interactions[fewest]} 到 {interactions[most]} 次行为，同一商品不重复。
成为购买的概率为 sigmoid({interactions[purchase_base]} + {interactions[purchase_slope]} × 余弦)，其余有 \
{interactions[cart_share]:.0%} 为加购，剩下为浏览；与用户口味最合的那一次必为购买。

## 评价

评价写在购买之后 2 到 21 天。
评价按 {reviews[rating_quality]} × 商品的隐藏质量 + {reviews[rating_fit]:g} × 商品与口味的余弦 + 噪声排序\
（质量与噪声的标准差为 1），从低到高依次有 {reviews[stars]} 得 1、2、3、4、5 星。
1、2 星为负面，3 星为中性，4、5 星为正面。
每条评价有一到四个短句；每个短句以 {reviews[foreign_phrases]:.0%} 的概率取自另一种情感。
正面评价有 {reviews[contrasts][positive]:.0%}、负面评价有 {reviews[contrasts][negative]:.0%} 的第一句是转折\
句，落在评价自己的情感上；中性评价有 {reviews[contrasts][neutral]:.0%} 的第一句是转折句，落在哪边都有可能。
只看文本，即使知道每个短句的情感和上述数字，判断正确率最高也只有 {reviews[best_accuracy]:.1%}。
{reviews[mistyped]:.0%} 的文本带有错别字或网络用语。

## 客服消息

{intents}

{messages[ambiguous]:.0%} 的消息同时符合两种意图，{messages[vague]:.0%} 的消息看不出意图。
只看文本，即使知道全部模板，判断正确率最高也只有 {messages[best_accuracy]:.1%}。
{messages[mistyped]:.0%} 的文本带有错别字或网络用语。

## 个人信息

{reviews[personal]:.0%} 的评价和 {messages[personal]:.0%} 的消息里埋有编造的个人信息，供脱敏程序查找：exampl\
e.com、.org、.net 下的邮箱，据我们所知未分配号段的 11 位手机号，不存在的区县代码加正确校验位的 18 位身份证号，\
测试号段加正确校验位的银行卡号。
埋入数量：{planted}。

## 销售

共 {sold} 件商品，每件 {weeks} 周，起始周在一年内随机。
销量服从带伽马噪声的泊松分布，形状参数 {sales[gamma_shape]:g}（方差 = 均值 + 均值² / {sales[gamma_shape]:g}）；\
均值的对数为以下各项之和：

- 品类在中间价位时周销量的对数；
- 品类的价格弹性 × log(价格 / 中间价位)；
- 促销时加 log({sales[promotion_lift]})；{sales[promotion_share]:.0%} 的行为促销，促销同时降价；
- 品类与季节系数的对数；
- {sales[rating_effect]} ×（评分 − 4）；
- 品牌效应（标准差 {sales[brand_spread]}）与商品效应（标准差 {sales[product_spread]}）。

{demand}

随机缺失：`rating_mean` {sales[missing][rating_mean]:.0%}，`stock` {sales[missing][stock]:.0%}，`category` \
{sales[missing][category]:.0%}。
平均评分 = {sales[rating]} + {sales[rating_quality]} × 隐藏质量，每周波动的标准差为 {sales[rating_spread]}；\
它不是由评价表算出的，但两者取决于同一个质量。
库存为 {sales[stock][0]} 到 {sales[stock][1]:g} 周的需求量，从不限制销量。
"""

CARD = CardWords(
    page=PAGE,
    files_head=("文件", "行数", "字节"),
    columns_head=("列", "含义"),
    intents_head=("意图", "占比"),
    demand_head=("品类", "价格弹性", "周销量", "中间价位"),
    columns={
        "products.parquet": {
            "product_id": "如 p000123",
            "name": "品牌、系列、材质、品名与颜色",
            "category": "十个品类之一",
            "brand": "虚构品牌",
            "colour": "十五种颜色之一",
            "material": "材质",
            "price": "标价",
            "description": "两三句介绍",
            "image": "图片路径，96×96 像素，RGB",
        },
        "users.parquet": {
            "user_id": "如 u000045",
            "joined": "注册时间，2022 至 2024 年",
            "city": "城市",
        },
        "interactions.parquet": {
            "user_id": "用户",
            "product_id": "商品",
            "event": "view 浏览、cart 加购、purchase 购买：走到哪一步",
            "time": "时间；按用户和时间排序",
        },
        "reviews.parquet": {
            "review_id": "如 r0000001",
            "user_id": "购买者",
            "product_id": "商品",
            "rating": "1 到 5 星",
            "sentiment": "negative 负面、neutral 中性、positive 正面，由评分得出",
            "text": "评价内容",
            "time": "时间；按此排序",
        },
        "messages.parquet": {
            "message_id": "如 m0000001",
            "user_id": "发送者",
            "text": "消息内容",
            "intent": "十种意图之一",
            "time": "时间；按此排序",
        },
        "sales.parquet": {
            "sale_id": "如 s0000001",
            "week": "该周的星期一",
            "product_id": "商品",
            "category": "品类，有缺失",
            "brand": "品牌",
            "price": "当周售价",
            "list_price": "标价",
            "promotion": "是否促销",
            "season": "按星期一所在月份：春（3 至 5 月）、夏、秋、冬",
            "rating_mean": "平均评分，有缺失",
            "stock": "库存件数，有缺失",
            "units": "销量（件）",
        },
    },
)
