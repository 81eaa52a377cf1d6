"""Comparisons of outputs, their errors and the verdict."""

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from mercato_server.contract.batch import Array
from mercato_server.contract.certificate import Case, OutputError
from mercato_server.errors import ParityFailed

GATES = {"float64": 1e-9, "float32": 1e-5, "bfloat16": 2e-2, "float16": 5e-3}
"""Largest relative L2 error per floating type; other types must agree exactly."""


@dataclass(frozen=True)
class Comparison:
    """One output in one case: norms of the difference and of what was expected, over `size` elements.

    `given` marks a case of the author's own rather than a generated one.
    """

    output: str
    case: Case
    difference: float
    expected: float
    max_abs: float
    size: int
    given: bool = False

    @property
    def root_mean_square(self) -> float:
        """Of what was expected."""
        return self.expected / math.sqrt(self.size)

    def relative(self, typical: float) -> float:
        """||got - expected|| / ||expected||.

        A generated case whose expected values are smaller than the usual ones is measured against the usual
        root mean square `typical`, so that a sum that cancels to almost zero is not held to more digits than
        its terms have. A given case is measured against its own values: those are what will be asked for.
        Where nothing but zeros is expected, the difference itself counts.
        """
        scale = self.expected if self.given else max(self.expected, typical * math.sqrt(self.size))
        return self.difference / scale if scale else self.difference


@dataclass
class Ledger:
    """Collects comparisons of one model; `verdict` raises or gives the largest errors."""

    model: str
    tolerances: dict[str, float] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)

    def add(self, output: str, case: Case, got: Array, expected: Array, *, given: bool = False) -> None:
        """Note how far `got` is from `expected`. Raises ParityFailed when their shapes differ."""
        if got.shape != expected.shape:
            raise ParityFailed(
                f"model {self.model!r}: output {output!r} has shape {got.shape}, expected {expected.shape}, "
                f"in check {case.check!r} at {_shown(case)}"
            )
        difference, norm, max_abs = _errors(got, expected)
        self.comparisons.append(Comparison(output, case, difference, norm, max_abs, max(1, got.size), given))

    def verdict(self) -> tuple[OutputError, ...]:
        """The largest error of every output. Raises ParityFailed with the numbers of the worst failure."""
        names = dict.fromkeys(comparison.output for comparison in self.comparisons)
        judged = [self._judge(name) for name in names]
        failed = [(error, worst, count) for error, worst, count in judged if not error.rel_l2 <= error.tolerance]
        if failed:
            raise ParityFailed(self._reason(*max(failed, key=lambda entry: entry[0].rel_l2)))
        return tuple(error for error, _, _ in judged)

    def _judge(self, output: str) -> tuple[OutputError, Comparison, int]:
        own = [comparison for comparison in self.comparisons if comparison.output == output]
        typical = median([comparison.root_mean_square for comparison in own if not comparison.given] or [0.0])
        worst = max(own, key=lambda comparison: comparison.relative(typical))
        tolerance = self.tolerances[output]
        count = sum(not comparison.relative(typical) <= tolerance for comparison in own)
        max_abs = max(comparison.max_abs for comparison in own)
        return OutputError(output, max_abs, worst.relative(typical), tolerance), worst, count

    def _reason(self, error: OutputError, worst: Comparison, count: int) -> str:
        cases = sum(comparison.output == error.output for comparison in self.comparisons)
        found = "not a finite number" if worst.difference == np.inf else f"relative L2 error {error.rel_l2:.3g}"
        return (
            f"model {self.model!r}: output {error.output!r} fails check {worst.case.check!r} at {_shown(worst.case)}: "
            f"{found}, tolerance {error.tolerance:.3g}, largest absolute error {worst.max_abs:.3g}; "
            f"{count} of {cases} comparisons fail"
        )


def gate(dtype: str) -> float:
    """The default tolerance of an output of this type."""
    return GATES.get(dtype, 0.0)


def _errors(got: Array, expected: Array) -> tuple[float, float, float]:
    """Norms of difference and expected values, and the largest difference.

    Types without fractions count unequal elements. A NaN on either side, or on both, is an infinite error.
    """
    if got.dtype.kind in "biuOUS":
        unequal = np.asarray(got != expected, np.float64)
        return float(np.linalg.norm(unequal)), float(unequal.size**0.5), float(unequal.max(initial=0))
    left, right = got.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    if np.isnan(left).any() or np.isnan(right).any():
        return float("inf"), 0.0, float("inf")
    return _float_errors(left, right)


def _float_errors(left: Array, right: Array) -> tuple[float, float, float]:
    difference = np.zeros_like(left)
    np.subtract(left, right, out=difference, where=left != right)
    finite: Any = right[np.isfinite(right)]
    return float(np.linalg.norm(difference)), float(np.linalg.norm(finite)), float(np.abs(difference).max(initial=0))


def _shown(case: Case) -> str:
    return ", ".join(f"{name}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in case.shapes.items())
