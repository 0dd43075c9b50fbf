"""One trace over all processes: OpenTelemetry spans, handed on as W3C Trace Context (``traceparent``).

Spans are made where the extra ``labd[otel]`` is installed and ``OTEL_EXPORTER_OTLP_ENDPOINT`` says where to send them;
the other ``OTEL_`` variables of the OpenTelemetry specification hold too. Otherwise the context of who called is handed
on all the same, so that a process without spans does not break a trace.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

HEADER = "traceparent"
"""Of HTTP, and of gRPC metadata."""
VARIABLE = "TRACEPARENT"
"""Environment variable by which a process is told in which trace it works."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
CLOSE_S = 2.0
"""How long the last spans may take to be sent when a process ends."""
QUIET_S = 600.0
"""A collector that is away is complained of this often."""
Attribute = str | int | float | bool
Kind = Literal["internal", "server", "client"]
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_here: ContextVar[str | None] = ContextVar("traceparent", default=None)
_log = logging.getLogger(__name__)


class _Process:
    """What this process has been told."""

    provider: "TracerProvider | None" = None
    tracer: "Tracer | None" = None
    within: str | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work in a trace."""

    traceparent: str | None
    """For whoever works on its behalf."""
    span: "OtelSpan | None" = None

    def note(self, **attributes: Attribute) -> None:
        """Says more of it."""
        if self.span is not None:
            self.span.set_attributes(_named(attributes))

    def failed(self, why: str) -> None:
        """It did not go well."""
        if self.span is not None:
            from opentelemetry.trace import Status, StatusCode

            self.span.set_status(Status(StatusCode.ERROR, why))


def set_up(service: str) -> None:
    """Has spans sent as those of ``service``, if the environment says where to. To be called once, before threads."""
    if not any(os.environ.get(name) for name in ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _log.warning("no traces are sent to %s: install labd[otel]", " or ".join(ENDPOINTS))
        return
    complaints = logging.StreamHandler()
    complaints.addFilter(_OnceInAWhile())
    logger = logging.getLogger("opentelemetry")
    logger.handlers, logger.propagate = [complaints], False
    attributes = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _Process.provider, _Process.tracer = provider, provider.get_tracer("labd")


def close() -> None:
    """Sends what has not been sent yet, and ends. Takes `CLOSE_S` at most."""
    provider, _Process.provider, _Process.tracer = _Process.provider, None, None
    if provider is not None:
        last = threading.Thread(target=provider.shutdown, name="tracing", daemon=True)
        last.start()
        last.join(CLOSE_S)


def adopt(traceparent: str | None) -> None:
    """From now on this process works in this trace, where nothing else is said."""
    _Process.within = checked(traceparent)


def adopt_environment() -> None:
    """The same, with what the process was started with."""
    adopt(os.environ.get(VARIABLE))


def checked(traceparent: str | None) -> str | None:
    """The text if it is a traceparent (W3C Trace Context, version 00); others say nothing, as the standard has it."""
    return traceparent if traceparent is not None and _FORM.fullmatch(traceparent) else None


def current() -> str | None:
    """The traceparent for whoever is asked to do something now."""
    return _here.get() or _Process.within


def trace_id() -> str | None:
    """Of the present trace, as 32 hexadecimal digits."""
    here = current()
    return None if here is None else here.split("-")[1]


def into_log(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor of structlog: a line that is written in a trace names it."""
    if (here := trace_id()) is not None:
        entry.setdefault("trace", here)
    return entry


def headers() -> dict[str, str]:
    """What goes with a request to another process."""
    here = current()
    return {} if here is None else {HEADER: here}


@contextmanager
def span(name: str, *, parent: str | None = None, kind: Kind = "internal", **attributes: Attribute) -> Iterator[Span]:
    """A span for as long as the block lasts, below ``parent`` or the present one. An exception marks it as failed."""
    above = checked(parent) or current()
    tracer = _Process.tracer
    started = None if tracer is None else _started(tracer, name, above, kind, attributes, time.time_ns())
    token = _here.set(above if started is None else _text(started))
    made = Span(_here.get(), started)
    try:
        yield made
    except BaseException as error:
        made.failed(f"{type(error).__name__}: {error}")
        raise
    finally:
        _here.reset(token)
        if started is not None:
            started.end()


def record(name: str, *, parent: str | None, start: float, end: float, **attributes: Attribute) -> None:
    """A span of what is over, from ``start`` to ``end`` (s since the Unix epoch). Nothing without a parent."""
    tracer = _Process.tracer
    if tracer is not None and checked(parent) is not None:
        _started(tracer, name, parent, "internal", attributes, int(start * 1e9)).end(int(max(start, end) * 1e9))


def _started(
    tracer: "Tracer", name: str, above: str | None, kind: Kind, attributes: Mapping[str, Attribute], start_ns: int
) -> "OtelSpan":
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = Context() if above is None else TraceContextTextMapPropagator().extract({HEADER: above}, Context())
    return tracer.start_span(name, context, SpanKind[kind.upper()], attributes=_named(attributes), start_time=start_ns)


def _named(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Names in Python have no dots: ``http__route`` is ``http.route``; those without are labd's own."""
    return {name.replace("__", ".") if "__" in name else f"labd.{name}": value for name, value in attributes.items()}


def _text(started: "OtelSpan") -> str:
    context = started.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


class _OnceInAWhile(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + QUIET_S
        return True
