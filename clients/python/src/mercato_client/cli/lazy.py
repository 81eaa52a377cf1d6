"""Subcommands that other distributions add through the entry point group `mercato.commands`."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand

GROUP = "mercato.commands"

# What this project's own distributions add, in their words, since asking their modules would import them.
SHIPPED = {
    "mercato-server": {
        "admin": "Load, unload and label models of a running server, drain it, or list its workers.",
        "certificate": "Print what was tried on an exported model and how far the graph was from its source.",
        "config": "Show the settings with their origin, the limits, or the settings file's schema.",
        "demo": "Train models on a small made-up shop, export, serve and call them with the others, and stop.",
        "export": "Export installed models to ONNX, each with its certificate; what the store holds is kept.",
        "plugins": "List installed plugins with their models, state and reason; no server is needed.",
        "serve": "Discover, export, load and serve every installed model.",
        "store": "Show what the artifact store holds, and remove what has not been used for long.",
    },
    "mercato-shop": {
        "data": "Write made-up data to train and try models with.",
    },
    "mercato-training": {
        "evaluate": "Serve trained models, score them on held-out rows, and compare quality, latency and size.",
        "train": "Train a model on data and write the next version of its model folder.",
    },
}

Found = tuple[EntryPoint, ...]


def installed_commands() -> dict[str, Found]:
    """Command name to the entry points that claim it, by name; nothing is imported."""
    found: dict[str, Found] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


class LazyCommand(TyperCommand):
    """Stands for a command in lists and help texts, and imports the real one when it is called."""

    def __init__(self, name: str, found: Found) -> None:
        self._found = found
        super().__init__(name, short_help=_short_help(name, _distributions(found)))

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The real command's context, so that its own options are parsed and its own code runs."""
        return self._load().make_context(info_name, args, parent=parent, **extra)

    def _load(self) -> Any:
        if len({entry.value for entry in self._found}) > 1:
            raise typer.TyperException(
                f"command {self.name!r} is claimed by {_distributions(self._found)}; uninstall all but one"
            )
        try:
            loaded = self._found[0].load()
        except (ImportError, AttributeError) as error:
            text = f"command {self.name!r} of {_distributions(self._found)} cannot be loaded: {error}"
            raise typer.TyperException(text) from error
        return typer.main.get_command(loaded if isinstance(loaded, typer.Typer) else _single(loaded))


def _short_help(name: str, distributions: str) -> str:
    return SHIPPED.get(distributions, {}).get(name, f"Added by {distributions}.")


def _single(function: Any) -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(function)
    return app


def _distributions(found: Found) -> str:
    return " and ".join(sorted({entry.dist.name if entry.dist else "?" for entry in found}))
