"""The yardstick of `make bench-lengths`: semantic.encoder under another name, whose batches are padded as they come."""

from pathlib import Path

from bench import plugin

DISTRIBUTION = "bench-plain"
MODEL = "bench.plain"

_SOURCE = '''
from dataclasses import replace
from math import nextafter

from mercato_plugin import hookimpl
from mercato_semantic import SentenceEncoderModel


class Plain(SentenceEncoderModel):
    """One run for each batch, every row padded to the longest."""

    def spec(self, ctx):
        spec = super().spec(ctx)
        policy = replace(spec.batch, run_rows=None, max_padding=nextafter(1.0, 0.0))
        return replace(spec, name="bench.plain", batch=policy)


@hookimpl
def mercato_models():
    return [Plain()]
'''


def install(folder: Path) -> None:
    """Put the plugin into a folder of PYTHONPATH."""
    plugin.install(folder, DISTRIBUTION, _SOURCE)
