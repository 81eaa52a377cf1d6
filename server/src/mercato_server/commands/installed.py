"""The installed models that a command works on."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from mercato_server.config import Settings
from mercato_server.contract.plugin import Discovery, OfferedModel
from mercato_server.errors import ConfigError
from mercato_server.plugins.host import Policy, discover

MODELS_DIR_HELP = "Folder of the trained models."


def installed(settings: Settings) -> Discovery:
    """What the installed plugins offer; whatever they print goes to standard error."""
    policy = Policy(settings.plugins_allow, settings.plugins_deny)
    with redirect_stdout(sys.stderr):
        return discover(policy, settings.plugin, settings.served_folders())


def chosen(found: Discovery, names: Sequence[str]) -> list[OfferedModel]:
    """The versions of the models of these names, of all without a name. Raises ConfigError for one that has none."""
    known = {offered.spec.name for offered in found.models}
    for name in names:
        if name not in known:
            raise ConfigError(_missing(found, name))
    return [offered for offered in found.models if not names or offered.spec.name in names]


def _missing(found: Discovery, name: str) -> str:
    for untrained in found.untrained:
        if untrained.model == name:
            return f"model {name!r} is untrained; {untrained.way_out}"
    own = [refusal for refusal in found.refused if refusal.model == name]
    if own:
        return f"model {name!r} cannot be used: {own[0].code}: {own[0].reason}"
    refused = "".join(f"; {refusal.code}: {refusal.reason}" for refusal in found.refused)
    known = sorted({offered.spec.name for offered in found.models})
    return f"model {name!r} is not installed; installed are {', '.join(known)}{refused}"
