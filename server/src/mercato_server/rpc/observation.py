"""What is recorded about each request: its beginning and its end, with the status it got."""

from mercato_server.contract.call import Call


class Observation:
    """Told of every request once at its beginning and once at its end."""

    def begin(self, call: Call) -> None:
        """A request has arrived."""

    def end(self, call: Call, code: str) -> None:
        """It was answered, refused or taken back; `code` is the name of a gRPC status."""
