"""What people are told of data with labels that a model does not know: it cannot be right there."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mercato_reviews.explanation import Array
from mercato_training import Report

LISTED = 8
"""Labels of one list."""


def tell_unknown_labels(expected: Array, known: Sequence[str], report: Report) -> None:
    """Say how many of the rows have a label that is not among the known ones; nothing where there is none."""
    unknown = ~np.isin(expected.astype(str), known)
    if unknown.any():
        names = sorted(set(expected[unknown].tolist()))
        report.say(
            f"{unknown.sum()} of {len(expected)} held-out rows have labels that the model does not know: "
            f"{_listed(names)}; it knows {_listed(known)}"
        )


def _listed(labels: Sequence[Any]) -> str:
    more = f" and {len(labels) - LISTED} more" if len(labels) > LISTED else ""
    return ", ".join(labels[:LISTED]) + more
