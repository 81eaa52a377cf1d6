"""One start of the server taken apart: the same steps one after the other, each timed, printed as a JSON object."""

import asyncio
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


async def main() -> None:
    """Import, start every worker, find, load and warm every model of the store given, or of the default one."""
    with _timed("imports"):
        from mercato_server import config
        from mercato_server.commands import serve  # noqa: F401 - its imports are what is timed
        from mercato_server.contract.host import Placement
        from mercato_server.plugins.host import Policy, installed
        from mercato_server.runtime.process import ProcessHost, WorkerLimits
        from mercato_server.runtime.providers import choose
        from mercato_server.runtime.threads import cpu_limit
        from mercato_server.store import Store
    with _timed("settings"):
        settings = config.load(store=Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    with _timed("provider"):
        provider = choose(settings.provider, apart=True).name
    with _timed("plugins found"):
        plugins, _ = installed(Policy(settings.plugins_allow, settings.plugins_deny))
    for plugin in plugins:
        limits = WorkerLimits()
        host = ProcessHost(plugin, settings.plugin(plugin.distribution), limits)
        with _timed(f"{plugin.distribution}: worker started, plugin imported"):
            offers = await host.start()
        for offer in offers.models:
            name = offer.spec.name
            with _timed(f"{name}: artifact found and verified"):
                artifact = Store(settings.store).find(offer.key)
            if artifact is None:
                raise RuntimeError(f"the store has no artifact of {name}")
            lane = host.lane(name, Placement(artifact, provider, cpu_limit()))
            with _timed(f"{name}: load"):
                await lane.load()
            with _timed(f"{name}: warm-up"):
                await lane.warm()
        await host.close()
    print(json.dumps(_TIMES))


if __name__ == "__main__":
    asyncio.run(main())
