"""The metrics port: what is counted, in the text format of Prometheus, over HTTP from a thread of its own."""

import contextlib
import itertools
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from mercato_server.errors import ConfigError
from mercato_server.telemetry import metrics
from mercato_server.telemetry.facts import Facts, Load, ModelFacts
from mercato_server.telemetry.metrics import Metric
from mercato_server.telemetry.tally import Histogram, RequestTally

log = logging.getLogger("mercato.metrics")

# A scraper's connection holds a thread for no longer than this, however it sends and reads, and of such threads there
# are no more than these.
SCRAPE_SECONDS = 10.0
MAX_SCRAPERS = 16

Row = tuple[Sequence[object], float]
HistogramRow = tuple[Sequence[object], Histogram]


class MetricsPort:
    """The port. It listens from construction to `close`; `port` is the one in use.

    Raises ConfigError naming the setting when `listen`, `host:port`, cannot be bound.
    """

    def __init__(self, listen: str, requests: RequestTally, facts: Callable[[], Facts]) -> None:
        registry = CollectorRegistry()
        registry.register(Collected(requests, facts))
        ProcessCollector(registry=registry)
        self._server = _bound(listen, MetricsHandler.factory(registry))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end the thread."""
        # Wakes the thread, which looks only twice a second whether it is to end. Not every system can do that.
        with contextlib.suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Collected(Collector):
    """All metrics of our own, gathered when they are asked for."""

    def __init__(self, requests: RequestTally, facts: Callable[[], Facts]) -> None:
        self._requests = requests
        self._facts = facts

    def describe(self) -> Iterable[Family]:
        """Every metric, without its samples."""
        return map(_family, metrics.OWN)

    def collect(self) -> Iterator[Family]:
        """Every metric, with its samples."""
        facts = self._facts()
        yield from self._of_requests()
        yield from _of_batches([(model, model.load) for model in facts.models if model.load])
        yield from _of_models(facts)
        yield from _of_workers(facts)
        yield _gauge(metrics.PLUGINS_REFUSED, [(refused, 1) for refused in facts.refused])
        yield _counter(metrics.EXPORTS_FAILED, [((), facts.exports_failed)])
        yield _gauge(metrics.STREAMS_OPEN, [((), facts.streams)])
        yield _gauge(metrics.CERTIFICATE_EXPIRY, [] if facts.expiry is None else [((), facts.expiry)])
        yield _gauge(metrics.SERVER_INFO, [((facts.version,), 1)])

    def _of_requests(self) -> Iterator[Family]:
        counts = self._requests.counts().items()
        yield _counter(metrics.REQUESTS, [((k.method, k.model, k.version or "", k.code), n) for k, n in counts])
        yield _histogram(metrics.REQUEST_SECONDS, self._requests.seconds().items())


def _of_batches(loads: Sequence[tuple[ModelFacts, Load]]) -> Iterator[Family]:
    named = [((model.model, model.version), load, load.tally) for model, load in loads]
    phases = [((*name, "queue"), tally.queue) for name, _, tally in named]
    phases += [((*name, phase), spent) for name, _, tally in named for phase, spent in tally.phases.items()]
    released = [((*name, why), count) for name, _, tally in named for why, count in tally.released().items()]
    yield _histogram(metrics.PHASE_SECONDS, phases)
    yield _histogram(metrics.BATCH_ROWS, [(name, tally.rows) for name, _, tally in named])
    yield _histogram(metrics.BATCH_PADDING, [(name, tally.padding) for name, _, tally in named])
    yield _counter(metrics.BATCHES, released)
    yield _counter(metrics.BATCHES_FAILED, [(name, tally.failed) for name, _, tally in named])
    yield _gauge(metrics.QUEUE_DEPTH, [(name, load.queued) for name, load, _ in named])
    yield _gauge(metrics.REQUESTS_IN_FLIGHT, [(name, load.requests) for name, load, _ in named])
    yield _gauge(metrics.BYTES_IN_FLIGHT, [(name, load.bytes) for name, load, _ in named])
    refused = [((*name, reason), count) for name, load, _ in named for reason, count in load.refused.items()]
    yield _counter(metrics.REFUSED, refused)
    caches = [(name, load.cache) for name, load, _ in named if load.cache]
    yield _counter(
        metrics.CACHE_ROWS,
        [((*name, "known"), cache.hits) for name, cache in caches]
        + [((*name, "unknown"), cache.misses) for name, cache in caches],
    )
    yield _gauge(metrics.CACHE_BYTES, [(name, cache.nbytes) for name, cache in caches])


def _of_models(facts: Facts) -> Iterator[Family]:
    named = [((model.model, model.version), model) for model in facts.models]
    states = [((*name, state), float(state == model.state)) for name, model in named for state in facts.states]
    infos = [((*name, model.plugin, model.plugin_version, model.provider, model.digest), 1.0) for name, model in named]
    yield _gauge(metrics.MODEL_STATE, states)
    yield _gauge(metrics.MODEL_STATE_SINCE, [(name, model.since) for name, model in named])
    yield _gauge(metrics.MODEL_INFO, infos)
    yield _gauge(metrics.MODEL_MEMORY, [(name, model.nbytes) for name, model in named if model.nbytes])
    yield _gauge(metrics.EXPORTS_RUNNING, [((), sum(model.state == "EXPORTING" for model in facts.models))])


def _of_workers(facts: Facts) -> Iterator[Family]:
    workers = facts.workers
    yield _gauge(metrics.WORKERS, [((worker.plugin, worker.isolation), worker.is_alive) for worker in workers])
    yield _gauge(metrics.WORKER_MEMORY, [((worker.plugin,), worker.nbytes) for worker in workers if worker.is_alive])
    yield _counter(metrics.WORKER_RESTARTS, [((worker.plugin,), worker.restarts) for worker in workers])
    yield _gauge(metrics.MEMORY_LIMIT, [] if facts.memory_limit is None else [((), facts.memory_limit)])


def _family(metric: Metric) -> Family:
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    family: Family = kinds[metric.kind](metric.name, metric.help, labels=metric.labels)
    return family


def _counter(metric: Metric, rows: Iterable[Row]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in rows:
        family.add_metric(list(map(str, labels)), value)
    return family


def _gauge(metric: Metric, rows: Iterable[Row]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in rows:
        family.add_metric(list(map(str, labels)), value)
    return family


def _histogram(metric: Metric, rows: Iterable[HistogramRow]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, histogram in rows:
        family.add_metric(list(map(str, labels)), _cumulative(histogram), histogram.total)
    return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, itertools.accumulate(histogram.counts()), strict=True))


class _Server(socketserver.ThreadingTCPServer):
    """Unlike the HTTP servers of the standard library it asks no name service for the name of its address."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[MetricsHandler]) -> None:
        self._free = threading.Semaphore(MAX_SCRAPERS)
        super().__init__(address, handler)

    def verify_request(self, request: object, client_address: object) -> bool:
        """Whether there is a thread for one more; else the connection is closed."""
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, from its own thread."""
        # The socket's own timeout begins anew with every byte.
        timer = threading.Timer(SCRAPE_SECONDS, _cut_off, [request])
        timer.daemon = True
        try:
            timer.start()
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that goes away is no fault of ours."""
        gone = isinstance(sys.exception(), OSError)
        log.log(logging.DEBUG if gone else logging.ERROR, "a scrape failed", exc_info=not gone)


def _cut_off(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _ServerIPv6(_Server):
    address_family = socket.AF_INET6


def _bound(listen: str, handler: type[MetricsHandler]) -> _Server:
    host, _, port = listen.rpartition(":")
    kind = _ServerIPv6 if ":" in host else _Server
    try:
        return kind((host.strip("[]"), int(port)), handler)
    except OSError as error:
        raise ConfigError(
            f"metrics_listen: cannot listen on {listen}: {error.strerror}; choose another port, or 'off'"
        ) from None
