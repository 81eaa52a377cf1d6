"""What a server offers, as frozen dataclasses: catalogue, models, versions, signatures and certificates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Axis:
    """A fixed axis has a `size`; a named one ("batch", or the author's name) has `max`, 0 when unbounded."""

    name: str
    size: int
    max: int


@dataclass(frozen=True)
class Field:
    """One input or output.

    `kind` is tensor, text, image or label; `dtype` a numeric type, "string" or "bytes". `default` is one
    row's value of an absent optional input. `max_bytes` belongs to text and images, `overflow` to text, `formats` and
    `max_pixels` to images, `labels` to labels.
    """

    name: str
    kind: str
    dtype: str
    axes: tuple[Axis, ...]
    doc: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    optional: bool = False
    default: Any = None
    finite: bool = False
    ragged: bool = False
    shared: bool = False
    max_bytes: int = 0
    overflow: str = ""
    formats: tuple[str, ...] = ()
    max_pixels: int = 0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parameter:
    """A typed value of one request; `type` is bool, int, float or string.

    No `choices` means any string of at most `max_bytes` bytes of UTF-8. Requests with different values of
    a `per_row` parameter may share a batch.
    """

    name: str
    type: str
    default: bool | int | float | str | None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    doc: str = ""
    per_row: bool = False
    max_bytes: int = 0


@dataclass(frozen=True)
class TopK:
    """The rows of a request are candidates: the answer has the best of them by output `by`, largest first.

    `k` names the parameter that says how many at most, `index` the output with their places among the request's rows.
    """

    by: str
    k: str
    index: str


@dataclass(frozen=True)
class Signature:
    """What a caller sees of a model version. `fingerprint` changes with the signature, not with the weights.

    `top_k` is None where an answer has a row for each row of the request.
    """

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    parameters: tuple[Parameter, ...]
    fingerprint: str
    top_k: TopK | None = None


@dataclass(frozen=True)
class OutputError:
    """Largest disagreement on one graph output; `rel_l2` had to stay within `tolerance`."""

    output: str
    max_abs: float
    rel_l2: float
    tolerance: float


@dataclass(frozen=True)
class Certificate:
    """The record that source and graph agree. Kind `self` proves invariances only."""

    kind: str
    passed: bool
    cases: int
    errors: tuple[OutputError, ...]
    opset: int
    provider: str
    checks: tuple[str, ...]
    tools: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None


@dataclass(frozen=True)
class ModelVersion:
    """One version: its state with reason and since-when (UTC), and what is known of it so far.

    A request has at most `max_rows` rows; one of more than `batch_rows` is run in several batches. `memory_bytes` is
    what loading and warming it were measured to take, 0 until then. `metrics` are what training measured on held-out
    data, by name; empty for a version that was not trained apart from its plugin.
    """

    version: int
    state: str
    reason: str
    since: datetime | None
    digest: str
    signature: Signature | None
    certificate: Certificate | None
    providers: tuple[str, ...]
    max_rows: int
    memory_bytes: int = 0
    batch_rows: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plugin:
    """A distribution that offers models."""

    distribution: str
    version: str


@dataclass(frozen=True)
class Model:
    """A model with its versions, newest first.

    `default_version` is the one that a call gets which names neither version nor label; 0 where the server tells none.
    """

    name: str
    plugin: Plugin
    doc: str
    license: str
    languages: tuple[str, ...]
    versions: tuple[ModelVersion, ...]
    labels: Mapping[str, int]
    default_version: int = 0

    def choose(self, version: int | None = None, label: str | None = None) -> ModelVersion | None:
        """The version a call gets: as asked, else the server's default.

        Of a server that tells none that is label `stable`, else the highest AVAILABLE one, else the newest.
        """
        if label is None and version is None and self.default_version:
            version = self.default_version
        elif label is None and version is None and "stable" in self.labels:
            label = "stable"
        if label is not None:
            version = self.labels.get(label, -1)
        if version is not None:
            return next((v for v in self.versions if v.version == version), None)
        available = [v for v in self.versions if v.state == "AVAILABLE"] or list(self.versions)
        return max(available, key=lambda v: v.version, default=None)


@dataclass(frozen=True)
class RefusedPlugin:
    """A plugin that offers no model: `code` such as IMPORT_FAILED, and the reason in words.

    With a `model` that one alone is refused, with a `version` that version alone.
    """

    plugin: Plugin
    entry_point: str
    code: str
    reason: str
    model: str = ""
    version: int = 0


@dataclass(frozen=True)
class Catalog:
    """All models by name, and the plugins that were refused."""

    models: tuple[Model, ...]
    refused_plugins: tuple[RefusedPlugin, ...]
