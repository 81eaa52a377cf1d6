"""The demo's shop: made up, small, in English or Chinese; models trained on it, and what they are asked."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from mercato_server.errors import ConfigError

Language = Literal["en", "zh"]

NEEDED = {"mercato_shop": "mercato-shop", "mercato_training": "mercato-training", "mercato_reviews": "mercato-reviews"}
PRODUCTS = "200"
USERS = "40"


@dataclass(frozen=True)
class Question:
    """What one trained model is asked, and the output that answers it."""

    model: str
    text: str
    inputs: Mapping[str, Any]
    output: str


def _demand(category: str, season: str, list_price: float, price: float, text: str) -> Question:
    promoted = float(price < list_price)
    inputs = {"category": [category], "season": [season], "list_price": [list_price], "price": [price]}
    return Question("pricing.demand", text, {**inputs, "promotion": [promoted]}, "prediction")


def _text(model: str, text: str) -> Question:
    return Question(model, repr(text), {"text": [text]}, "label")


QUESTIONS: dict[Language, tuple[Question, ...]] = {
    "en": (
        _demand("mugs", "winter", 22.99, 22.99, "mugs a week at 22.99"),
        _demand("mugs", "winter", 22.99, 16.99, "mugs a week at 16.99"),
        _text("reviews.sentiment", "Terrible quality, it fell apart after a week. A waste of money."),
        _text("reviews.sentiment", "Built to last, and worth every penny."),
        _text("reviews.intent", "Where is my parcel? It was due on Monday."),
    ),
    "zh": (
        _demand("杯具", "冬", 149.0, 149.0, "杯具一周销量，149 元"),
        _demand("杯具", "冬", 149.0, 109.0, "杯具一周销量，109 元"),
        _text("reviews.sentiment", "做工粗糙，用了一个星期就坏了。"),
        _text("reviews.sentiment", "质量没得说，结实耐用。"),
    ),
}


LEFT_OUT: dict[Language, dict[str, str]] = {
    "en": {},
    "zh": {
        "reviews.intent": "the packaged encoder, asked in English above, reads English; "
        "for Chinese set `encoder` of mercato-reviews and mercato-semantic to one that reads it"
    },
}
"""Models that a shop of that language would train too, and why the demo does not."""


def trained(folder: Path, language: Language) -> dict[str, dict[str, float]]:
    """Make the shop in `folder` and train its models there; gives their held-out metrics by model.

    Raises ConfigError for what is not installed, CalledProcessError for a step that failed and has said why.
    """
    missing = [name for module, name in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ConfigError(f"the demo trains models on a made-up shop, which needs {', '.join(missing)}; install them")
    shop = folder / "shop"
    _mercato("data", "shop", str(shop), "--language", language, "--products", PRODUCTS, "--users", USERS)
    models = dict.fromkeys(question.model for question in QUESTIONS[language])
    return {model: _metrics(model, shop, folder / "models") for model in models}


def _metrics(model: str, shop: Path, models_dir: Path) -> dict[str, float]:
    print(f"training {model}", file=sys.stderr, flush=True)
    document = _mercato("train", model, "--data", str(shop), "--models-dir", str(models_dir))
    metrics: dict[str, float] = document["metrics"]
    return metrics


def _mercato(*arguments: str) -> dict[str, Any]:
    """One command of `mercato`, whose progress goes to this terminal; on one core, as the shop is small."""
    command = [sys.executable, "-m", "mercato_client.cli", *arguments, "--json"]
    env = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)  # noqa: S603  (our own)
    document: dict[str, Any] = json.loads(done.stdout)
    return document
