"""The installed models that a command works on."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from mercato_server.config import Settings
from mercato_server.contract.plugin import Discovery, OfferedModel
from mercato_server.errors import ConfigError
from mercato_server.plugins.host import Policy, discover


def installed(settings: Settings) -> Discovery:
    """What the installed plugins offer; whatever they print goes to standard error."""
    with redirect_stdout(sys.stderr):
        return discover(Policy(settings.plugins_allow, settings.plugins_deny), settings.plugin)


def chosen(settings: Settings, names: Sequence[str]) -> list[OfferedModel]:
    """The models of these names, all of them without a name. Raises ConfigError for one that is not installed."""
    found = installed(settings)
    known = {offered.spec.name for offered in found.models}
    unknown = [name for name in names if name not in known]
    if unknown:
        refused = "".join(f"; {refusal.code}: {refusal.reason}" for refusal in found.refused)
        raise ConfigError(f"model {unknown[0]!r} is not installed; installed are {', '.join(sorted(known))}{refused}")
    return [offered for offered in found.models if not names or offered.spec.name in names]
