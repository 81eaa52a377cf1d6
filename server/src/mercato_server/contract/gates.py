"""Gates: what the metrics of a version must reach before a label may mean it."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mercato_plugin.folder import MAX_METRIC_NAME
from mercato_plugin.spec import MODEL_NAME
from mercato_server.contract.words import shown

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(
    rf"\s*(?:(?P<model>{MODEL_NAME.pattern})\s*:\s*)?(?P<metric>[^<>=:\s](?:[^<>=:]*[^<>=:\s])?)\s*"
    r"(?P<sign>[<>]=?)\s*(?P<bound>[+-]?[0-9.]+(?:[eE][+-]?[0-9]{1,3})?)\s*"
)
_DECIMAL_COMMA = re.compile(r"[<>]=?\s*[+-]?[0-9]*,\s*[0-9]+\s*(?:,|$)")


@dataclass(frozen=True)
class Gate:
    """One bound of one metric; `model` is "" where it holds for every model."""

    model: str
    metric: str
    sign: str
    bound: float

    @property
    def text(self) -> str:
        """As an operator writes it, its model left out."""
        return f"{self.metric}{self.sign}{self.bound!r}"

    def passes(self, value: float) -> bool:
        """Whether a metric of that value passes."""
        return _OPERATORS[self.sign](value, self.bound)


def parse(text: str) -> Gate:
    """A gate such as `f1>=0.8`, or `reviews.intent: f1>=0.8` for one model. Raises ValueError."""
    found = _FORM.fullmatch(text)
    try:
        bound = float(found["bound"]) if found else math.nan
    except ValueError:
        bound = math.nan
    if found is None or not math.isfinite(bound) or len(found["metric"]) > MAX_METRIC_NAME:
        expected = 'a metric, one of >= > <= < and a number, such as "f1>=0.8" or "reviews.intent: f1>=0.8"'
        point = "; write decimals with a point" if _DECIMAL_COMMA.search(text) else ""
        raise ValueError(f"got {shown(text)}, expected {expected}{point}")
    return Gate(found["model"] or "", found["metric"], found["sign"], bound)


def parse_own(text: str) -> Gate:
    """As `parse`, where the model stands already. Raises ValueError, also when another is named."""
    gate = parse(text)
    if gate.model:
        raise ValueError(f"got a gate of {gate.model!r} in the settings of a model, expected {gate.text!r} alone")
    return gate


def not_passed(gates: Iterable[Gate], model: str, metrics: Mapping[str, float]) -> str:
    """The first gate of a model that these metrics do not pass, with the metric's value; "" when they pass all."""
    for gate in gates:
        if gate.model in ("", model):
            value = metrics.get(gate.metric)
            if value is None:
                return f"it has no metric {gate.metric}, the gate is {gate.text}"
            if not gate.passes(value):
                return f"metric {gate.metric} is {value!r}, the gate is {gate.text}"
    return ""
