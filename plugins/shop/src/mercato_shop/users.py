"""users.parquet: who is registered, since when and where."""

import numpy as np
import pyarrow as pa

from mercato_shop.ids import timestamps, user_ids
from mercato_shop.plan import START, Plan

# Everybody joined in the three years before the shop's year.
JOINED_DAYS = 3 * 365


def draw_users(plan: Plan) -> pa.Table:
    """The table, one row per user, in the order of the ids."""
    rng = plan.stream("users")
    ago = rng.integers(0, JOINED_DAYS * 86_400, plan.users) + 1
    cities = rng.choice(np.array(plan.words.goods.cities), plan.users)
    return pa.table(
        {
            "user_id": user_ids(range(plan.users)),
            "joined": timestamps(START.astype(np.int64) - ago),
            "city": cities.tolist(),
        }
    )
