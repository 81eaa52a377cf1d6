"""The kinds of inputs and outputs a signature is made of: Tensor, Text, Image and Label."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from mercato_plugin.errors import SpecError

BATCH = "batch"

NUMERIC = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64",
)  # fmt: skip
FLOATING = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Axis:
    """A named axis whose size the caller chooses, from 1 up to `max`."""

    name: str
    max: int

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise SpecError(f"axis name {self.name!r} is not an identifier")
        if self.max < 1:
            raise SpecError(f"axis {self.name!r}: max must be at least 1, got {self.max}")


AxisSpec = int | str | Axis


def _checked_axes(axes: Sequence[AxisSpec]) -> tuple[AxisSpec, ...]:
    """Refuse axes without a bound: only `batch` may be a bare name, since the batch policy bounds it."""
    for axis in axes:
        if isinstance(axis, str) and axis != BATCH:
            raise SpecError(f"axis {axis!r} needs a maximum: write Axis({axis!r}, max=...)")
        if isinstance(axis, int) and axis < 1:
            raise SpecError(f"a fixed axis must be at least 1, got {axis}")
    if BATCH in axes[1:]:
        raise SpecError("'batch' can only be the first axis")
    return tuple(axes)


def _check_default_shape(default: Any, axes: tuple[AxisSpec, ...]) -> None:
    """A default is one number for every element, or one whole row."""
    try:
        shape = np.shape(default)
    except ValueError:
        raise SpecError("a default's rows differ in length; give one number, or one whole row") from None
    if shape and not (len(shape) == len(axes) and all(map(_has_size, axes, shape))):
        wanted = ", ".join(str(axis) if isinstance(axis, int | str) else f"1 to {axis.max}" for axis in axes)
        raise SpecError(f"a default of shape {list(shape)} does not fit a row of shape [{wanted}]")


def _check_length_axis(axes: Sequence[AxisSpec], shared: bool) -> None:
    place = 0 if shared else 1
    if len(axes) <= place or not isinstance(axes[place], Axis):
        wanted = '0: (Axis("length", max=...),)' if shared else '1: ("batch", Axis("length", max=...))'
        raise SpecError(f"a {'shared ' * shared}ragged tensor needs a named axis {wanted}")


def _has_size(axis: AxisSpec, size: int) -> bool:
    return 1 <= size <= axis.max if isinstance(axis, Axis) else size == axis


@dataclass(frozen=True, kw_only=True)
class Field:
    """What every input and output may state.

    `doc` says what it means and `unit` in what it is measured. `low` and `high` are inclusive bounds,
    checked on the caller's values and used to generate parity inputs. An `optional` input may be
    absent: its rows then hold `default` (one row's value; zero or empty when not given), and
    `batch.present` says which rows are real. `shared` means one value for all rows of a request:
    the caller leaves the batch axis out, the plugin still gets one entry per row.
    """

    kind: ClassVar[str] = ""

    doc: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    optional: bool = False
    default: Any = None
    shared: bool = False

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise SpecError(f"low {self.low} is greater than high {self.high}")
        if self.default is not None and not self.optional:
            raise SpecError("a default needs optional=True")

    @property
    def row_axes(self) -> tuple[AxisSpec, ...]:
        """Axes of one row, without the batch axis."""
        return ()

    @property
    def dtype_name(self) -> str:
        """Element type on the wire: a numeric name, `string` or `bytes`."""
        return "string"


@dataclass(frozen=True)
class Tensor(Field):
    """Numbers: `Tensor("float32", ("batch", 3))`.

    The first axis is `batch` unless the input is shared. `finite` refuses NaN and infinities
    (floating types only). `ragged` lets rows differ in length along axis 1; the server pads with
    `pad` and `batch.lengths` has the true lengths. A shared ragged input has its length along axis 0:
    a request has one value of any length, and all its rows get it.
    """

    kind: ClassVar[str] = "tensor"

    dtype: str = "float32"
    axes: Sequence[AxisSpec] = (BATCH,)
    finite: bool = field(default=True, kw_only=True)
    ragged: bool = field(default=False, kw_only=True)
    pad: float = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in NUMERIC:
            raise SpecError(f"unknown dtype {self.dtype!r}; expected one of {', '.join(NUMERIC)}")
        object.__setattr__(self, "axes", _checked_axes(self.axes))
        if self.ragged:
            _check_length_axis(self.axes, self.shared)
        _check_default_shape(self.default, self.row_axes)

    @property
    def row_axes(self) -> tuple[AxisSpec, ...]:
        """Axes of one row, without the batch axis."""
        return tuple(self.axes[1:] if self.axes and self.axes[0] == BATCH else self.axes)

    @property
    def dtype_name(self) -> str:
        """The numeric type."""
        return self.dtype


@dataclass(frozen=True)
class Text(Field):
    """Unicode strings, one per row; `max_bytes` counts their UTF-8 form.

    Longer strings are refused, or cut at a character boundary with `overflow="truncate"`,
    which the receipt then says. `axes` allows an output several strings per row, such as the tags of a title:
    `Text(axes=("batch", 5))`; any of them may be empty.
    """

    kind: ClassVar[str] = "text"

    max_bytes: int = 8192
    overflow: Literal["refuse", "truncate"] = "refuse"
    axes: Sequence[AxisSpec] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_bytes < 1:
            raise SpecError(f"max_bytes must be at least 1, got {self.max_bytes}")
        if self.overflow not in ("refuse", "truncate"):
            raise SpecError(f"overflow must be 'refuse' or 'truncate', got {self.overflow!r}")
        axes = _checked_axes(self.axes)
        if axes and axes[0] != BATCH:
            raise SpecError(f"text must have 'batch' as its first axis, got {axes[0]!r}")
        # One string per row is what no axes stand for, in fingerprints too.
        object.__setattr__(self, "axes", axes if len(axes) > 1 else ())

    @property
    def row_axes(self) -> tuple[AxisSpec, ...]:
        """Axes of one row, without the batch axis."""
        return tuple(self.axes[1:])


@dataclass(frozen=True)
class Image(Field):
    """Encoded images, one per row, as the bytes of a file in one of `formats`."""

    kind: ClassVar[str] = "image"

    formats: Sequence[str] = ("jpeg", "png", "webp")
    max_pixels: int = 25_000_000
    max_bytes: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "formats", tuple(self.formats))
        unknown = set(self.formats) - {"jpeg", "png", "webp"}
        if unknown or not self.formats:
            raise SpecError(f"formats must be some of jpeg, png, webp; got {self.formats}")

    @property
    def dtype_name(self) -> str:
        """Images are bytes on the wire."""
        return "bytes"


@dataclass(frozen=True)
class Label(Field):
    """One of `names`: an int64 index for the plugin, the name itself for the caller.

    `axes` allows several labels per row, such as the top five: `Label(names, ("batch", 5))`.
    """

    kind: ClassVar[str] = "label"

    names: Sequence[str] = ()
    axes: Sequence[AxisSpec] = (BATCH,)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "axes", _checked_axes(self.axes))
        if not self.names or len(set(self.names)) != len(self.names):
            raise SpecError("label names must be given and unique")
        if self.default is not None and self.default not in self.names:
            raise SpecError(f"default {self.default!r} is not one of the label's names {self.names}")

    @property
    def row_axes(self) -> tuple[AxisSpec, ...]:
        """Axes of one row, without the batch axis."""
        return tuple(self.axes[1:] if self.axes and self.axes[0] == BATCH else self.axes)
