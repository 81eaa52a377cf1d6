"""Every bound that a caller, a plugin or a stored file can meet, read from the code that enforces it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from mercato_plugin import BatchPolicy, Image, Str, Text, examples
from mercato_plugin.folder import MAX_FILE_NAME, MAX_JSON, MAX_METRIC_NAME, MAX_METRICS
from mercato_plugin.spec import MAX_NAME, MAX_VERSION
from mercato_server.config import MAX_FILE_BYTES, Settings
from mercato_server.contract.summary import MAX_SUMMARY
from mercato_server.contract.words import MAX_SHOWN
from mercato_server.control.crashes import LONGEST_PAUSE
from mercato_server.export import launch
from mercato_server.export.cases import MAX_CELLS
from mercato_server.export.request import MAX_MESSAGE
from mercato_server.export.tools import tools_installed
from mercato_server.rpc import access, codec, images, port, prediction, probe, request_id, status, stream, tls
from mercato_server.runtime.process_lane import SLOTS
from mercato_server.store.verify import MAX_JSON_BYTES
from mercato_server.telemetry import exposition


@dataclass(frozen=True)
class Limit:
    """One bound. `beyond` says what happens past it.

    `setting` is what moves it: a setting of mercato.toml, or what a plugin declares, such as `Text.max_bytes`;
    "" when it is fixed.
    """

    name: str
    value: float
    unit: str
    beyond: str
    setting: str = ""


def limits(settings: Settings) -> list[Limit]:
    """All of them, those that callers meet first; a model's own stands behind the one that it overrides."""
    callers = (*_of_calls(settings), *_of_streams(), *_of_requests(), *_of_errors())
    everybody = (*callers, *_of_plugins(), *_of_workers(settings), *_of_files())
    return [limit for item in everybody for limit in (item, *_overridden(item, settings))]


def _of_calls(settings: Settings) -> Iterator[Limit]:
    gone = "the connection is closed with ENHANCE_YOUR_CALM"
    yield Limit("message size", settings.max_message_bytes, "bytes", "RESOURCE_EXHAUSTED", "max_message_bytes")
    yield Limit("message fields", settings.max_message_fields, "fields", "INVALID_ARGUMENT", "max_message_fields")
    yield Limit("metadata", port.MAX_METADATA_BYTES, "bytes", "RESOURCE_EXHAUSTED")
    yield Limit("calls of a connection", port.MAX_STREAMS, "calls", "the client holds further calls back")
    yield Limit("time between pings", port.PING_SECONDS, "seconds", f"sooner is a strike; {gone}")
    yield Limit("ping strikes", port.MAX_PING_STRIKES, "strikes", gone)
    closed = "the connection is closed"
    yield Limit("silence of a connection", port.KEEPALIVE_SECONDS, "seconds", "the server pings the client")
    yield Limit("answer to a ping", port.ANSWER_SECONDS, "seconds", closed)
    yield Limit("handshake", port.HANDSHAKE_SECONDS, "seconds", closed)
    age = "the connection takes no new calls, and its client opens another"
    yield Limit("age of a connection", settings.connection_age, "seconds", age, "connection_age")
    yield Limit("default deadline", settings.default_deadline, "seconds", "DEADLINE_EXCEEDED", "default_deadline")
    yield Limit("message of a probe", probe.MAX_MESSAGE_BYTES, "bytes", "RESOURCE_EXHAUSTED")
    yield Limit("scrapers at a time", exposition.MAX_SCRAPERS, "connections", closed)
    yield Limit("time of a scrape", exposition.SCRAPE_SECONDS, "seconds", closed)
    yield Limit("draining", settings.drain_seconds, "seconds", "UNAVAILABLE", "drain_seconds")
    with contextlib.suppress(ImportError):  # without the extra no spans are sent
        from mercato_server.telemetry.tracing import FLUSH_SECONDS

        yield Limit("flush of spans", FLUSH_SECONDS, "seconds", "spans that wait are lost")
    full, held = "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED, unless it is the only request"
    yield Limit("requests in flight", settings.max_requests, "requests", full, "max_requests")
    yield Limit("bytes in flight", settings.max_request_bytes, "bytes", held, "max_request_bytes")
    total, size = settings.max_total_requests, settings.max_total_request_bytes
    yield Limit("requests of all models", total, "requests", full, "max_total_requests")
    yield Limit("bytes of all models", size, "bytes", held, "max_total_request_bytes")


def _of_streams() -> Iterator[Limit]:
    waits = "the stream is not read until answers have gone out"
    yield Limit("requests in flight of a stream", stream.MAX_IN_FLIGHT, "requests", waits)
    yield Limit("bytes held by a stream", stream.MAX_HELD_BYTES, "bytes", waits)


def _of_requests() -> Iterator[Limit]:
    refused = "INVALID_ARGUMENT"
    yield Limit("request id", request_id.MAX_LENGTH, "characters", refused)
    yield Limit("priority", prediction.LEAST_PRIORITY, "", refused)
    policy = BatchPolicy()
    yield Limit("rows of a request", policy.rows_per_request, "rows", refused, "BatchPolicy.request_rows")
    yield Limit("rows of a batch", policy.max_rows, "rows", "the others run in further batches", "BatchPolicy.max_rows")
    yield Limit("text", Text().max_bytes, "bytes", f"{refused}, or cut if the field says so", "Text.max_bytes")
    yield Limit("string parameter", Str().max_bytes, "bytes", refused, "Str.max_bytes")
    yield Limit("image size", Image().max_bytes, "bytes", refused, "Image.max_bytes")
    yield Limit("image pixels", Image().max_pixels, "pixels", refused, "Image.max_pixels")
    yield Limit("image segments", images.MAX_SEGMENTS, "segments", refused)
    yield Limit("padded ragged input", codec.PADDED_BYTES, "bytes", f"{refused}, unless the next one allows it")
    yield Limit("padded to sent", codec.PADDED_SHARE, "times", f"{refused}, unless the last one allows it")


def _of_errors() -> Iterator[Limit]:
    cut = "the text is cut"
    yield Limit("faults looked for", codec.MAX_FAULTS, "faults", "the rest is not looked for")
    yield Limit("field violations", status.MAX_VIOLATIONS, "violations", "the rest is left out")
    yield Limit("text of an error", status.MAX_TEXT, "bytes", cut)
    yield Limit("description of a violation", status.MAX_DESCRIPTION, "bytes", cut)
    yield Limit("name in an error", status.MAX_NAME, "bytes", cut)
    yield Limit("caller in a refusal", access.MAX_CALLER, "characters", cut)
    yield Limit("caller's word in an error", MAX_SHOWN, "characters", cut)


def _of_plugins() -> Iterator[Limit]:
    refused = "the plugin is refused with SPEC_INVALID"
    yield Limit("name of a model or field", MAX_NAME, "characters", refused)
    yield Limit("version", MAX_VERSION, "", refused)
    yield Limit("padding of a run", BatchPolicy().max_padding, "of its cells", "another run", "BatchPolicy.max_padding")
    yield Limit("text of an exception", MAX_SUMMARY, "characters", "the text is cut")
    yield Limit("silence of an export", launch.RUN_SECONDS, "seconds", "EXPORT_FAILED")
    yield Limit("end of an export", launch.EXIT_SECONDS, "seconds", "the process is killed")
    yield Limit("event of an export", launch.MAX_LINE, "bytes", "EXPORT_FAILED")
    yield Limit("message of an export", MAX_MESSAGE, "characters", "the text is cut")
    yield Limit("output of an export", launch.MAX_NOISE, "bytes", "its beginning is left out")
    yield Limit("certified case", MAX_CELLS, "cells", "smaller sizes are tried")


def _of_workers(settings: Settings) -> Iterator[Limit]:
    ended = "the worker is ended"
    yield Limit("import of a plugin", settings.import_timeout, "seconds", "IMPORT_TIMEOUT", "import_timeout")
    yield Limit("load or warm-up", settings.load_timeout, "seconds", f"LOAD_FAILED; {ended}", "load_timeout")
    yield Limit("run of a batch", settings.batch_timeout, "seconds", f"WORKER_CRASHED; {ended}", "batch_timeout")
    given_up = "it is not started again, and its models fail"
    yield Limit("ends of a worker", settings.crash_budget, "ends", given_up, "crash_budget")
    forgotten = "older ones are forgotten"
    yield Limit("window of a worker's ends", settings.crash_window, "seconds", forgotten, "crash_window")
    yield Limit("pause before a worker is started again", LONGEST_PAUSE, "seconds", "it doubles up to this")
    yield Limit("batches handed to a worker", SLOTS, "batches", "further ones are not formed yet")
    if settings.worker_memory is not None:
        yield Limit("memory of a worker", settings.worker_memory, "bytes", "its allocations fail", "worker_memory")
    if settings.memory_limit is not None:
        yield Limit("memory of all models", settings.memory_limit, "bytes", "MEMORY_EXCEEDED", "memory_limit")


def _of_files() -> Iterator[Limit]:
    yield Limit("settings file", MAX_FILE_BYTES, "bytes", "CONFIG_INVALID")
    yield Limit("TLS file", tls.MAX_FILE_BYTES, "bytes", "CONFIG_INVALID")
    yield Limit("stored JSON", MAX_JSON_BYTES, "bytes", "ARTIFACT_DAMAGED")
    yield Limit("manifest or metrics of a model folder", MAX_JSON, "bytes", "FOLDER_DAMAGED")
    yield Limit("metrics of a version", MAX_METRICS, "metrics", "FOLDER_DAMAGED")
    yield Limit("name of a metric", MAX_METRIC_NAME, "characters", "FOLDER_DAMAGED")
    yield Limit("file name in a model folder", MAX_FILE_NAME, "characters", "FOLDER_DAMAGED")
    yield Limit("recorded examples", examples.MAX_BYTES, "bytes", "EXPORT_FAILED")
    yield Limit("nested lists of a recorded value", examples.MAX_DEPTH, "lists", "EXPORT_FAILED")
    if tools_installed() is not None:
        # Without the tools nothing is exported, and what enforces these cannot be imported.
        from mercato_server.export import onnx_gate, ready_graph

        yield Limit("size of an ONNX file", ready_graph.MAX_BYTES, "bytes", "EXPORT_FAILED")
        yield Limit("nodes of an ONNX file", onnx_gate.MAX_NODES, "nodes", "EXPORT_FAILED")
        yield Limit("nested functions of an ONNX file", onnx_gate.MAX_CALLS, "functions", "EXPORT_FAILED")
        yield Limit("dimensions of a weight", onnx_gate.MAX_RANK, "dimensions", "EXPORT_FAILED")
        yield Limit("elements of a weight", onnx_gate.MAX_ELEMENTS, "elements", "EXPORT_FAILED")


def _overridden(limit: Limit, settings: Settings) -> Iterator[Limit]:
    for model in settings.models:
        if (value := settings.overrides(model).get(limit.setting)) is not None:
            where = f'models."{model}".{limit.setting}'
            yield Limit(f"{limit.name} of {model}", value, limit.unit, limit.beyond, where)
