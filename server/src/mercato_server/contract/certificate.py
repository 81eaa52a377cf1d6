"""The certificate: the record that a source and its ONNX graph agree."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

CertificateKind = Literal["source", "recorded", "self"]


@dataclass(frozen=True)
class OutputError:
    """Largest disagreement on one output over all cases, and the gate on `rel_l2`."""

    output: str
    max_abs: float
    rel_l2: float
    tolerance: float


@dataclass(frozen=True)
class Case:
    """One comparison: the check it belongs to, and the shapes of its graph inputs."""

    check: str
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Certificate:
    """What was tried and what came out.

    `kind` says against what: the eager source in float64, outputs recorded with the author's examples,
    or only the graph's own invariances. `checks` names the checks that ran. `created` is a wall-clock second.
    """

    kind: CertificateKind
    passed: bool
    errors: tuple[OutputError, ...]
    cases: tuple[Case, ...]
    checks: tuple[str, ...]
    opset: int
    provider: str
    tools: Mapping[str, str] = field(default_factory=dict)
    created: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Certificate":
        """The certificate that `to_json` wrote."""
        return cls(
            **{
                **data,
                "errors": tuple(OutputError(**item) for item in data["errors"]),
                "cases": tuple(
                    Case(item["check"], {name: tuple(shape) for name, shape in item["shapes"].items()})
                    for item in data["cases"]
                ),
                "checks": tuple(data["checks"]),
            }
        )
