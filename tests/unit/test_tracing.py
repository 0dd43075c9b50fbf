"""Traces over processes: what is sent to a collector, and what is handed on without one."""

import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from bench_agent.protocol import tracing
from labd.cli.main import main
from tests.collector import Collector
from tests.unit.client.fake_labd import FakeLabd

ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    yield
    tracing.adopt(None)
    tracing.close()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        ABOVE.upper(),
        ABOVE + "-more",
        "01" + ABOVE[2:],
    ],
)
def test_what_is_no_traceparent_says_nothing(text: str | None) -> None:
    with tracing.span("work", parent=text) as span:
        assert span.traceparent is None
        assert tracing.headers() == {} and tracing.trace_id() is None


def test_without_a_collector_the_context_is_handed_on_as_it_came() -> None:
    with tracing.span("work", parent=ABOVE) as span:
        assert span.traceparent == ABOVE
        assert tracing.headers() == {"traceparent": ABOVE}
        assert tracing.into_log(None, "info", {"event": "x"})["trace"] == ABOVE.split("-")[1]
    assert tracing.current() is None
    tracing.adopt(ABOVE)
    assert tracing.current() == ABOVE


def test_spans_reach_the_collector_with_their_parents_and_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing.set_up("labd-test")
        with pytest.raises(ValueError, match="no such ECU"), tracing.span("outer", parent=ABOVE, bench="hil-1"):
            with tracing.span("inner", kind="client", http__route="/x") as inner:
                inner.note(answer=3)
            tracing.record("waited", parent=tracing.current(), start=100.0, end=102.5, lease="l-1")
            raise ValueError("no such ECU")
        tracing.close()
        spans = collector.spans()
    outer, inner_span, waited = spans["outer"], spans["inner"], spans["waited"]
    assert outer.service == "labd-test"
    assert {one.trace for one in spans.values()} == {ABOVE.split("-")[1]}
    assert outer.parent == ABOVE.split("-")[2] and inner_span.parent == waited.parent == outer.id
    assert outer.attributes == {"labd.bench": "hil-1"}
    assert inner_span.attributes == {"http.route": "/x", "labd.answer": 3}
    assert (outer.error, inner_span.error) == ("ValueError: no such ECU", None)
    assert waited.end_s - waited.start_s == pytest.approx(2.5)


def test_a_collector_that_does_not_answer_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(tracing, "CLOSE_S", 0.05)
    tracing.set_up("labd-test")
    with tracing.span("work"):
        pass
    ended = threading.Thread(target=tracing.close)
    ended.start()
    ended.join(30)
    assert not ended.is_alive()


def test_labctl_works_in_the_trace_of_the_job_that_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", ABOVE)
    with FakeLabd() as labd:
        CliRunner().invoke(main, ["--labd", labd.url, "bench", "ls"], catch_exceptions=False)
        assert labd.headers[-1]["traceparent"] == ABOVE
