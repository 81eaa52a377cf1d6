"""The metrics: every name in one list, with its labels and buckets."""

from dataclasses import dataclass
from typing import Literal

# Queue waits at an idle lane and the phases of small models are below 100 microseconds; callers without a deadline
# get 30 seconds. 1, 2.5 and 5 of each power of ten between them tell a quantile to within a factor of 2.5.
SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
# What joining gains shows in doublings.
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
# The first bucket holds the batches without any padding.
PADDING = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Metric:
    """One metric as a scrape shows it; `name` of a counter ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


VERSION = ("model", "version")

REQUESTS = Metric("mercato_requests_total", "counter", "Finished requests.", ("method", *VERSION, "code"))
REQUEST_SECONDS = Metric(
    "mercato_request_seconds", "histogram", "Time from a request's arrival to its answer.", ("method", "model")
)
PHASE_SECONDS = Metric(
    "mercato_phase_seconds",
    "histogram",
    "Time in one phase: queue once per request, preprocess, compute and postprocess once per batch.",
    (*VERSION, "phase"),
)
BATCH_ROWS = Metric("mercato_batch_rows", "histogram", "Rows of one batch.", VERSION)
BATCH_PADDING = Metric(
    "mercato_batch_padding_ratio", "histogram", "Share of a batch's computed cells that were padding.", VERSION
)
BATCHES = Metric("mercato_batches_total", "counter", "Batches by why they left the queue.", (*VERSION, "release"))
BATCHES_FAILED = Metric("mercato_batches_failed_total", "counter", "Batches that raised.", VERSION)
QUEUE_DEPTH = Metric("mercato_queue_depth", "gauge", "Requests that wait for a batch.", VERSION)
REQUESTS_IN_FLIGHT = Metric("mercato_requests_in_flight", "gauge", "Requests that hold a permit.", VERSION)
BYTES_IN_FLIGHT = Metric("mercato_request_bytes_in_flight", "gauge", "Bytes that requests with a permit hold.", VERSION)
REFUSED = Metric(
    "mercato_requests_refused_total",
    "counter",
    "Requests refused on arrival or displaced from the queue, by reason.",
    (*VERSION, "reason"),
)
CACHE_ROWS = Metric(
    "mercato_cache_rows_total",
    "counter",
    "Rows that a cache was asked for, by whether it knew them.",
    (*VERSION, "outcome"),
)
CACHE_BYTES = Metric("mercato_cache_bytes", "gauge", "Bytes of answers that a cache holds.", VERSION)
MODEL_STATE = Metric("mercato_model_state", "gauge", "1 for the state that holds, else 0.", (*VERSION, "state"))
MODEL_STATE_SINCE = Metric(
    "mercato_model_state_timestamp_seconds", "gauge", "Unix time since when the state holds.", VERSION
)
MODEL_INFO = Metric(
    "mercato_model_info",
    "gauge",
    "1, with facts of the model version in its labels.",
    (*VERSION, "plugin", "plugin_version", "provider", "digest"),
)
MODEL_MEMORY = Metric(
    "mercato_model_memory_bytes", "gauge", "Memory that loading and warming the version was measured to take.", VERSION
)
MEMORY_LIMIT = Metric("mercato_memory_limit_bytes", "gauge", "Most memory that all models together may take.")
WORKERS = Metric("mercato_workers", "gauge", "1 for a plugin whose worker runs, else 0.", ("plugin", "isolation"))
WORKER_MEMORY = Metric(
    "mercato_worker_memory_bytes", "gauge", "Resident memory of the process that a plugin's worker is in.", ("plugin",)
)
WORKER_RESTARTS = Metric(
    "mercato_worker_restarts_total", "counter", "Workers that ended by themselves and were started again.", ("plugin",)
)
PLUGINS_REFUSED = Metric("mercato_plugins_refused", "gauge", "1 for each plugin that was refused.", ("plugin", "code"))
EXPORTS_RUNNING = Metric("mercato_exports_running", "gauge", "Models that are being exported.")
EXPORTS_FAILED = Metric("mercato_exports_failed_total", "counter", "Exports that failed.")
STREAMS_OPEN = Metric("mercato_predict_streams_open", "gauge", "PredictStream calls that are open.")
CERTIFICATE_EXPIRY = Metric(
    "mercato_tls_certificate_expiry_timestamp_seconds", "gauge", "Unix time at which the certificate in use expires."
)
SERVER_INFO = Metric("mercato_server_info", "gauge", "1, with the server's version in its label.", ("version",))

OWN = (
    REQUESTS, REQUEST_SECONDS, PHASE_SECONDS, BATCH_ROWS, BATCH_PADDING, BATCHES, BATCHES_FAILED, QUEUE_DEPTH,
    REQUESTS_IN_FLIGHT, BYTES_IN_FLIGHT, REFUSED, CACHE_ROWS, CACHE_BYTES, MODEL_STATE, MODEL_STATE_SINCE, MODEL_INFO,
    MODEL_MEMORY, MEMORY_LIMIT, WORKERS, WORKER_MEMORY, WORKER_RESTARTS, PLUGINS_REFUSED, EXPORTS_RUNNING,
    EXPORTS_FAILED, STREAMS_OPEN, CERTIFICATE_EXPIRY, SERVER_INFO,
)  # fmt: skip

# Collected by the library, on Linux only.
PROCESS = (
    Metric("process_cpu_seconds_total", "counter", "CPU time of the server's process, in user and system mode."),
    Metric("process_virtual_memory_bytes", "gauge", "Virtual memory of the server's process."),
    Metric("process_resident_memory_bytes", "gauge", "Resident memory of the server's process."),
    Metric("process_start_time_seconds", "gauge", "Unix time at which the process started."),
    Metric("process_open_fds", "gauge", "File descriptors that are open."),
    Metric("process_max_fds", "gauge", "File descriptors that may be open."),
)

ALL = (*OWN, *PROCESS)
