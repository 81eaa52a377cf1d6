"""How large a batch may become and how long it may gather, from the measured curve and a target for latency."""

from math import inf

from mercato_server.serving.curve import Curve

_WORTH = 0.9
"""A batch is held where one of twice its weight would take less than this share of the time per weight."""

_RIDE = 1.2
"""Less urgent rows may lengthen the run of more urgent ones to so many times what it takes without them."""

_KEEP = 0.8
"""Share of an older estimate of how much arrives that is kept beside a new measurement."""


class Pace:
    """The size and the window of the next batch. `target` is in seconds, None where none is set.

    In the worst case a request waits for one whole run before its own, so a run may take half the target.
    """

    def __init__(self, curve: Curve, target: float | None) -> None:
        self._curve = curve
        self._target = target
        self._rate = 0.0
        self._arrived = 0
        self._since = 0

    @property
    def has_target(self) -> bool:
        """Whether a batch may be held at all."""
        return self._target is not None

    def arrive(self, weight: int) -> None:
        """Count what has arrived."""
        self._arrived += weight

    def took(self, now: int) -> None:
        """A batch was formed: learn how much arrives per second. `now` is in nanoseconds."""
        seconds = (now - self._since) / 1e9
        if seconds > 0:
            self._rate = _KEEP * self._rate + (1 - _KEEP) * self._arrived / seconds
        self._arrived, self._since = 0, now

    def most_weight(self) -> float:
        """The largest weight of a batch that keeps to the target.

        It is never below the weight that takes as long as the run does without any: smaller batches would only cost
        throughput, and a target that asks for less cannot be met.
        """
        curve = self._curve
        if self._target is None or not curve.runs or not curve.slope:
            return inf
        return max(curve.weight(self._target / 2), curve.base / curve.slope)

    def ride(self, weight: float) -> float:
        """Up to which weight less urgent rows may join more urgent ones that weigh `weight`."""
        return self._curve.weight(_RIDE * self._curve.seconds(weight))

    def window(self, waited: float, weight: float, most: float) -> float:
        """Seconds to hold a batch of this weight, whose first member has waited for `waited` seconds; 0 is not at all.

        It is held only where a target leaves the time, where a larger batch costs less per weight, and where as much
        is expected to arrive. `most` is the weight of a full batch.
        """
        curve, target = self._curve, self._target
        if target is None or not curve.runs or not 0 < weight < most:
            return 0.0
        larger = min(2 * weight, most)
        if curve.seconds(larger) / larger > _WORTH * curve.seconds(weight) / weight:
            return 0.0
        slack = target - waited - curve.seconds(larger) * (1 + curve.error)
        needed = (larger - weight) / self._rate if self._rate else inf
        return needed if needed <= slack else 0.0
