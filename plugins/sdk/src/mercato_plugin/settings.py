"""A model's own settings: a frozen dataclass whose fields an operator fills."""

from dataclasses import MISSING, Field, field, fields
from typing import Any, get_args, get_type_hints


class Secret(str):
    """A setting that is never printed, logged or part of a key: its repr hides it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('***')"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> dict[str, Any]:
        """Let pydantic, which the server fills settings with, make a Secret from a string."""
        return {"type": "function-after", "function": {"type": "no-info", "function": cls}, "schema": {"type": "str"}}


def setting(default: Any = MISSING, *, doc: str, build: bool = True) -> Any:
    """One field of a settings dataclass.

    `build=False` marks a setting that only serving reads: changing it does not export again.
    A `pathlib.Path` setting that enters the build is keyed by the content of what it points to.
    """
    metadata = {"doc": doc, "build": build}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def build_settings(settings: Any) -> dict[str, Any]:
    """The settings that enter the build, by name; secrets never do."""
    if settings is None:
        return {}
    hints = get_type_hints(type(settings))
    return {item.name: getattr(settings, item.name) for item in fields(settings) if _enters_build(item, hints)}


def holds_secret(hint: Any) -> bool:
    """Whether a setting of this type is a secret, or may hold one, such as `Secret | None`."""
    return (isinstance(hint, type) and issubclass(hint, Secret)) or any(map(holds_secret, get_args(hint)))


def _enters_build(item: Field[Any], hints: dict[str, Any]) -> bool:
    return bool(item.metadata.get("build", True)) and not holds_secret(hints[item.name])
