"""One start of the server taken apart: the same steps one after the other, each timed, printed as a JSON object."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TIMES: dict[str, float] = {}


@contextmanager
def _timed(step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    _TIMES[step] = time.perf_counter() - start


def main() -> None:
    """Import, discover, find, load and warm every model of the store given, or of the default one."""
    with _timed("imports"):
        from mercato_server import config
        from mercato_server.commands import serve  # noqa: F401 - its imports are what is timed
        from mercato_server.plugins.host import Policy, discover
        from mercato_server.runtime.providers import choose
        from mercato_server.runtime.threads import cpu_limit
        from mercato_server.runtime.worker import Worker
        from mercato_server.store import Store
        from mercato_server.store.offered import key_of
    with _timed("settings"):
        settings = config.load(store=Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    with _timed("provider"):
        provider = choose(settings.provider).name
    with _timed("discovery"):
        discovery = discover(Policy(), settings.plugin)
    for offered in discovery.models:
        name = offered.spec.name
        with _timed(f"{name}: key"):
            key = key_of(offered)
        with _timed(f"{name}: artifact found and verified"):
            artifact = Store(settings.store).find(key)
        if artifact is None:
            raise RuntimeError(f"the store has no artifact of {name}")
        worker = Worker(offered, artifact, provider=provider, threads=cpu_limit())
        with _timed(f"{name}: load"):
            worker.load()
        with _timed(f"{name}: warm-up"):
            worker.warm()
    print(json.dumps(_TIMES))


if __name__ == "__main__":
    main()
