"""What a plugin has for the server, on its way from the worker process: JSON data, its plugin and settings left out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mercato_plugin.frozen import freeze, thaw
from mercato_server.contract.plugin import Offer, Offers, PluginInfo, Refusal, Trained, Untrained


def told(offers: Offers) -> dict[str, Any]:
    """What the worker tells."""
    return {
        "offers": [{"spec": freeze(o.spec), "key": o.key, "trained": _trained(o.trained)} for o in offers.models],
        "refused": [[r.code, r.reason, r.model, r.version] for r in offers.refused],
        "untrained": [[untrained.model, untrained.trains] for untrained in offers.untrained],
        "source": offers.source,
    }


def heard(facts: Mapping[str, Any], plugin: PluginInfo, given: Mapping[str, Any]) -> Offers:
    """What the server hears of it. Raises SpecError, LookupError, TypeError or ValueError for anything else."""
    return Offers(
        [Offer(plugin, thaw(o["spec"]), str(o["key"]), given, _heard_trained(o["trained"])) for o in facts["offers"]],
        [Refusal(plugin, str(code), str(why), str(model), int(n)) for code, why, model, n in facts["refused"]],
        [Untrained(plugin, str(model), bool(trains)) for model, trains in facts["untrained"]],
        str(facts["source"]),
    )


def _trained(trained: Trained | None) -> dict[str, Any] | None:
    if trained is None:
        return None
    return {"files": str(trained.files), "digest": trained.digest, "metrics": dict(trained.metrics)}


def _heard_trained(facts: Mapping[str, Any] | None) -> Trained | None:
    if facts is None:
        return None
    metrics = {str(name): float(value) for name, value in facts["metrics"].items()}
    return Trained(Path(facts["files"]), str(facts["digest"]), metrics)
