"""Reading a metrics port as Prometheus does."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families
from tests.server.running import Running

Labels = tuple[tuple[str, str], ...]


def scraped(port: int | None, host: str = "127.0.0.1") -> str:
    """The whole page."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return str(answer.read(), "utf-8")


def samples(server: Running, name: str) -> dict[Labels, float]:
    """Value by labels of one sample name."""
    families = text_string_to_metric_families(scraped(server.metrics_port))
    found = (sample for family in families for sample in family.samples if sample.name == name)
    return {tuple(sorted(sample.labels.items())): sample.value for sample in found}


def value(server: Running, name: str, **labels: str) -> float:
    """Sum of the samples with these labels, among others."""
    found = samples(server, name).items()
    return sum(number for given, number in found if labels.items() <= dict(given).items())
