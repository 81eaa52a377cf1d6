"""How long a batch takes by its weight: a line through what was measured, in which older runs count less and less."""

from math import inf

_FORGET = 0.95
_SAME = 1e-4
"""Below this relative variance the weights measured are as good as equal, and tell no slope."""

_FAR = 8
"""A run that takes so many times more or less than expected is taken for an accident, two in a row for a new model."""

_OFTEN = 0.25
"""Share of such runs from which on they are learned like any other."""

_WORTH = 0.8
"""A batch is worth its run if it does so much of the work per second that a full one does."""


class Curve:
    """Seconds of a run as `base + slope * weight`. Before anything was measured it knows nothing and says 0."""

    def __init__(self) -> None:
        self.base = self.slope = 0.0
        self.error = 0.0
        """Mean relative error of the estimates so far, more of the recent ones."""
        self.runs = 0
        self._heaviest = 0.0
        self._way = 0
        self._strange = 0.0
        self._count = self._weight = self._seconds = self._square = self._product = 0.0

    def learn(self, weight: float, seconds: float) -> None:
        """Take one run into account."""
        if self.runs and self._is_accident(weight, seconds):
            return
        self.runs += 1
        self._heaviest = max(weight, _FORGET * self._heaviest)
        self._count = self._count * _FORGET + 1
        self._weight = self._weight * _FORGET + weight
        self._seconds = self._seconds * _FORGET + seconds
        self._square = self._square * _FORGET + weight * weight
        self._product = self._product * _FORGET + weight * seconds
        self._fit()

    def seconds(self, weight: float) -> float:
        """Expected seconds of one run."""
        return self.base + self.slope * weight

    @property
    def usual(self) -> float:
        """Seconds that runs took of late, whatever they weighed."""
        return self._seconds / self._count if self.runs else 0.0

    def weight(self, seconds: float) -> float:
        """The largest weight that is expected to take no longer; where weight costs nothing any or none."""
        if not self.slope:
            return inf if seconds >= self.base else 0.0
        return max(0.0, seconds - self.base) / self.slope

    def worth(self, full: float) -> float:
        """The weight from which on a batch is worth its run, where a full one weighs `full`."""
        loss = (1 / _WORTH - 1) * self.slope + self.base / full / _WORTH
        return min(full, self.base / loss) if loss else 0.0

    def _is_accident(self, weight: float, seconds: float) -> bool:
        """Whether the run says nothing; one of a weight far beyond what is known is no accident, whatever it takes.

        Two in a row that are far off the same way replace what was known, and what happens often is no accident.
        """
        expected = self.seconds(weight)
        self.error += 0.1 * (min(1.0, abs(seconds - expected) / max(seconds, 1e-9)) - self.error)
        is_known = weight <= 2 * self._heaviest
        way = (seconds > _FAR * expected) - (seconds * _FAR < expected) if is_known else 0
        self._strange += 0.1 * (abs(way) - self._strange)
        is_second = way != 0 and way == self._way
        self._way = 0 if is_second else way
        if is_second:
            self._forget()
        return way != 0 and not is_second and self._strange < _OFTEN

    def _forget(self) -> None:
        self._count = self._weight = self._seconds = self._square = self._product = 0.0

    def _fit(self) -> None:
        """Least squares, but neither part below 0: less weight never takes longer, and no weight takes some time."""
        weight, seconds = self._weight / self._count, self._seconds / self._count
        variance = self._square / self._count - weight * weight
        covariance = self._product / self._count - weight * seconds
        is_line = variance > _SAME * weight * weight
        self.slope = min(max(covariance / variance, 0.0), seconds / weight) if is_line else 0.0
        self.base = seconds - self.slope * weight
