"""Who may call what: the default-deny table principal x method x model."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from mercato_server.contract.call import Call
from mercato_server.errors import ConfigError, NotAllowed

ANY = "*"
# Characters of a caller's names in a refusal.
MAX_CALLER = 128


@dataclass(frozen=True)
class Rule:
    """One row: what one principal may do. `methods` are `package.Service/Method`; `*` stands for all."""

    principal: str
    methods: frozenset[str]
    models: frozenset[str]


class Access:
    """The table. Without one everybody may do everything; with one only what a row of a caller's names allows."""

    def __init__(self, rules: Sequence[Rule] | None = None) -> None:
        self._rules = None if rules is None else _by_principal(rules)

    def check_rows(self, methods: Collection[str]) -> None:
        """Raise ConfigError for a row that names no single caller, or a method that is not among `methods`."""
        for principal, rules in (self._rules or {}).items():
            if principal == ANY:
                raise ConfigError(f"access: principal {ANY!r} names nobody; a row is for one name of a certificate")
            for name in sorted({name for rule in rules for name in rule.methods - {ANY}} - set(methods)):
                known = ", ".join(sorted(methods))
                raise ConfigError(f"access: the row of {principal!r} names method {name!r}, expected one of {known}")

    def check_method(self, call: Call) -> None:
        """Raise NotAllowed unless a row of this caller names the method."""
        if self._rules is not None and not any(self._rows(call)):
            raise NotAllowed(f"{_caller(call)} may not call {call.method}; the access table has no such row")

    def check_model(self, call: Call, model: str) -> None:
        """Raise NotAllowed unless a row names the method and the model, whether or not the model exists."""
        if not self.sees(call, model):
            text = (
                f"{_caller(call)} may not use this model with {call.method}; a row of the access table has to allow it"
            )
            raise NotAllowed(text)

    def sees(self, call: Call, model: str) -> bool:
        """Whether the caller may use this method on this model."""
        return self._rules is None or any(ANY in rule.models or model in rule.models for rule in self._rows(call))

    def _rows(self, call: Call) -> Iterable[Rule]:
        rules = self._rules or {}
        return (
            rule
            for name in call.principals
            for rule in rules.get(name, ())
            if ANY in rule.methods or call.method in rule.methods
        )


def _by_principal(rules: Sequence[Rule]) -> dict[str, list[Rule]]:
    rows: dict[str, list[Rule]] = {}
    for rule in rules:
        rows.setdefault(rule.principal, []).append(rule)
    return rows


def _caller(call: Call) -> str:
    names = ", ".join(call.principals)
    return f"caller {names[:MAX_CALLER]!a}" if names else "a caller without a URI or DNS name in its certificate"
