"""Who may call what: the default-deny table principal x method x model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mercato_server.contract.call import Call
from mercato_server.errors import NotAllowed

ANY = "*"


@dataclass(frozen=True)
class Rule:
    """One row: what one principal may do. `methods` are `package.Service/Method`; `*` stands for all."""

    principal: str
    methods: frozenset[str]
    models: frozenset[str]


class Access:
    """The table. Without one everybody may do everything; with one only what a row allows.

    `open_methods` need no row: probes must never be locked out.
    """

    def __init__(self, rules: Sequence[Rule] | None = None, open_methods: Iterable[str] = ()) -> None:
        self._rules = rules
        self._open = frozenset(open_methods)

    def check_method(self, call: Call) -> None:
        """Raise NotAllowed unless a row of this caller names the method."""
        if self._rules is not None and call.method not in self._open and not any(self._rows(call)):
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
        return (
            rule
            for rule in self._rules or ()
            if rule.principal == call.principal and (ANY in rule.methods or call.method in rule.methods)
        )


def _caller(call: Call) -> str:
    return f"caller {call.principal[:128]!a}" if call.principal else "a caller without a certificate"
