"""What the command prints for people: tables of models, signatures, answers and receipts."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mercato_client.prediction import Prediction, Receipt
from mercato_client.schema import Axis, Catalog, Certificate, Field, Model, ModelVersion, Parameter, Signature, TopK

FALLBACK = "auto fell back to cpu: "
"""How a server that found no GPU begins the reason of a version that serves all the same."""


def show_catalog(catalog: Catalog) -> None:
    """All models with state and reason, and the refused plugins."""
    versions = [version for model in catalog.models for version in model.versions]
    why = fallback(version.reason for version in versions if version.state == "AVAILABLE")
    rows = [_listed(model, version, why) for model in catalog.models for version in model.versions]
    _show("Models", ("model", "version", "state", "provider", "certificate", "reason"), rows)
    if why:
        print(no_gpu(why))
    if catalog.refused_plugins:
        refused = [(r.plugin.distribution, r.entry_point, r.code, r.reason) for r in catalog.refused_plugins]
        _show("Refused plugins", ("plugin", "entry point", "code", "reason"), refused)


def show_model(model: Model) -> None:
    """One model: what it is, its signature, and its versions with their certificates and metrics."""
    _show(model.name, ("", ""), _about(model))
    chosen = model.choose()
    if chosen and chosen.signature:
        _show_signature(chosen.signature)
    columns = ("version", "state", "since", "providers", "memory", "certificate", "reason")
    _show("Versions", columns, [_version(version) for version in model.versions])
    _show_metrics([version for version in model.versions if version.metrics])


def show_answer(answer: Prediction) -> None:
    """The outputs, and the receipt when there is one."""
    rows = [(name, _type_name(array), str(list(array.shape)), _values(array)) for name, array in answer.items()]
    _show(f"{answer.model.name} version {answer.model.version}", ("output", "type", "shape", "values"), rows)
    if answer.receipt:
        _show("Receipt", ("", ""), _receipt(answer.receipt))


def fallback(reasons: Iterable[str]) -> str:
    """The reason of all of them, where each is that of a server without a GPU; it is told once then, by `no_gpu`."""
    found = set(reasons)
    return found.pop() if len(found) == 1 and all(reason.startswith(FALLBACK) for reason in found) else ""


def no_gpu(reason: str) -> str:
    """What a fallback's reason says, on a line of its own."""
    return f"no GPU in use: {reason.removeprefix(FALLBACK)}"


def shape(axes: Iterable[Axis]) -> str:
    """Axes in a row, such as `[batch, tokens (1 to 256), 3]`; `one value` for none."""
    parts = [axis.name + (f" (1 to {axis.max})" if axis.max else "") if axis.name else str(axis.size) for axis in axes]
    return f"[{', '.join(parts)}]" if parts else "one value"


def certificate_text(certificate: Certificate | None) -> str:
    """Kind, outcome and the largest error, such as `source, passed, rel l2 3e-08`."""
    if certificate is None:
        return ""
    worst = max((error.rel_l2 for error in certificate.errors), default=None)
    unproven = " (unproven)" if certificate.kind == "self" else ""
    parts = [certificate.kind + unproven, "passed" if certificate.passed else "failed"]
    return ", ".join(parts if worst is None else [*parts, f"rel l2 {worst:.1e}"])


def _show(title: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    """Cells are plain text: a square bracket in a reason is not markup. Long ones fold, nothing is cut.

    Names, in the first column, and states stay on one line, unless a name takes more than half of the width.
    """
    names, cells, console = list(columns), list(rows), Console()
    table = Table(title=title, title_justify="left", show_header=any(names))
    for index, name in enumerate(names):
        longest = max((len(row[index]) for row in cells), default=0)
        whole = (index == 0 and longest <= console.width // 2) or name == "state"
        table.add_column(name, overflow="fold", no_wrap=whole)
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _listed(model: Model, version: ModelVersion, told: str) -> tuple[str, ...]:
    """One row; a reason that is `told` for all of them is left out."""
    labels = [label for label, number in model.labels.items() if number == version.version]
    shown = f"{version.version} ({', '.join(labels)})" if labels else str(version.version)
    provider = version.providers[0] if version.providers else ""
    reason = "" if version.reason == told else version.reason
    return model.name, shown, version.state, provider, certificate_text(version.certificate), reason


def _about(model: Model) -> list[tuple[str, str]]:
    labels = ", ".join(f"{label} = {version}" for label, version in model.labels.items())
    chosen = model.choose()
    facts = (
        ("doc", model.doc),
        ("plugin", f"{model.plugin.distribution} {model.plugin.version}"),
        ("license", model.license),
        ("languages", ", ".join(model.languages)),
        ("labels", labels),
        ("rows", _rows(chosen) if chosen else ""),
        ("answer", _ranking(chosen.signature.top_k) if chosen and chosen.signature else ""),
    )
    return [(name, value) for name, value in facts if value]


def _rows(version: ModelVersion) -> str:
    if not version.max_rows:
        return ""
    several = f", run in batches of at most {version.batch_rows}" if 0 < version.batch_rows < version.max_rows else ""
    return f"at most {version.max_rows} in a request{several}"


def _ranking(top_k: TopK | None) -> str:
    return f"the best {top_k.k} rows by {top_k.by}, their places in {top_k.index}" if top_k else ""


def _show_signature(signature: Signature) -> None:
    columns = ("name", "type", "shape", "unit, bounds", "doc")
    _show("Inputs", columns, map(_field, signature.inputs))
    _show("Outputs", columns, map(_field, signature.outputs))
    if signature.parameters:
        _show("Parameters", ("name", "type", "default", "bounds", "doc"), map(_parameter, signature.parameters))


def _show_metrics(versions: Sequence[ModelVersion]) -> None:
    """What training measured, a column for each version, so that two can be compared."""
    names = sorted({name for version in versions for name in version.metrics})
    rows = [(name, *(_metric(version.metrics.get(name)) for version in versions)) for name in names]
    if rows:
        _show("Metrics", ("metric", *(f"version {version.version}" for version in versions)), rows)


def _metric(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _field(field: Field) -> tuple[str, ...]:
    kind = field.dtype if field.kind == "tensor" else field.kind
    notes = (("optional", field.optional), ("ragged", field.ragged), ("shared", field.shared))
    marks = [word for word, holds in notes if holds]
    return field.name, ", ".join([kind, *marks]), shape(field.axes), _bounds(field), field.doc


def _bounds(field: Field) -> str:
    limits = (
        field.unit,
        _range(field.low, field.high),
        f"at most {field.max_bytes} bytes, longer is {'cut' if field.overflow == 'truncate' else 'refused'}"
        if field.max_bytes
        else "",
        ", ".join(field.formats),
        ", ".join(field.labels[:5]) + (", ..." if len(field.labels) > 5 else ""),
    )
    return "; ".join(limit for limit in limits if limit)


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {low:g}"
    return f"at most {high:g}" if low is None else f"{low:g} to {high:g}"


def _parameter(parameter: Parameter) -> tuple[str, ...]:
    longest = f"at most {parameter.max_bytes} bytes" if parameter.max_bytes else ""
    bounds = ", ".join(parameter.choices) or longest or _range(parameter.low, parameter.high)
    default = "" if parameter.default is None else str(parameter.default)
    return parameter.name, parameter.type, default, bounds, parameter.doc


def _version(version: ModelVersion) -> tuple[str, ...]:
    since = version.since.strftime("%Y-%m-%d %H:%M:%S UTC") if version.since else ""
    certificate = certificate_text(version.certificate)
    providers, memory = ", ".join(version.providers), _mebibytes(version.memory_bytes)
    return str(version.version), version.state, since, providers, memory, certificate, version.reason


def _mebibytes(nbytes: int) -> str:
    """Rounded up; empty where nothing was measured."""
    return f"{-(-nbytes // 1024**2)} MiB" if nbytes else ""


def _type_name(array: np.ndarray[Any, Any]) -> str:
    first = array.flat[0] if array.dtype == object and array.size else None
    return array.dtype.name if first is None else type(first).__name__


def _values(array: np.ndarray[Any, Any]) -> str:
    if array.dtype == object and array.size and isinstance(array.flat[0], bytes):
        return ", ".join(f"{len(item)} bytes" for item in array.flat)
    return np.array2string(array, threshold=16, edgeitems=3, precision=6, separator=", ")


def _receipt(receipt: Receipt) -> list[tuple[str, str]]:
    stages = (("queue", receipt.queue_ns), ("pre", receipt.pre_ns), ("compute", receipt.compute_ns))
    facts = [(name, f"{nanoseconds / 1e6:.3f} ms") for name, nanoseconds in (*stages, ("post", receipt.post_ns))]
    if receipt.batch_rows:
        facts.append(("batch", f"{receipt.batch_rows} rows, {receipt.padding:.0%} padding, {receipt.release_reason}"))
    facts += [("batches", str(receipt.batches))] if receipt.batches > 1 else []
    facts.append(("provider", receipt.provider))
    facts += [("cache", f"{receipt.cache}, {receipt.cached_rows} rows")] if receipt.cache else []
    facts += [(f"{name} cut", f"{rows} rows") for name, rows in receipt.truncations.items()]
    return facts + [("digest", receipt.digest)] * bool(receipt.digest)
