"""Spans of requests, at a collector that listens: right parents, names and counts, no text; and a collector that fails hurts nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from redistill.errors import ConfigError
from redistill.serving.router.trace_context import Tracer
from redistill.serving.router.trace_settings import traces_of
from tests.bench.router.processes import free_port
from tests.routers import STUDENT, SURE, TEACHER, TEXT, running, settled
from tests.trace_receiver import Collector, attributes, collecting

SECRET = "my card 4929 is lost in Lyon"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextmanager
def traced(monkeypatch: pytest.MonkeyPatch, url: str) -> Iterator[Tracer]:
    """Spans that go to a collector. Those that wait are sent when it ends."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    traces = traces_of({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    assert traces is not None
    yield traces


def server_of(spans: list[Span]) -> Span:
    [span] = [each for each in spans if each.kind == Span.SPAN_KIND_SERVER]
    return span


def clients_of(spans: list[Span]) -> list[Span]:
    return sorted((each for each in spans if each.kind == Span.SPAN_KIND_CLIENT), key=lambda each: each.start_time_unix_nano)


def asked(monkeypatch: pytest.MonkeyPatch, collector: Collector, count: int, options: dict[str, Any], **body: Any) -> list[Span]:
    """The spans of one request, and of the router's end."""

    async def check() -> None:
        with traced(monkeypatch, collector.url) as traces:
            async with running(**options, traces=traces) as router:
                response = await router.ask(SECRET, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}, **body)
                assert response.status in (200, 503)
                await settled(router)
                sent = (router.student.headers | router.teacher.headers).values()
                assert all(headers["traceparent"].startswith(f"00-{TRACE}-") for headers in sent) and sent

    asyncio.run(check())
    return collector.waiting_for(count)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_server_span_below_the_callers_and_each_attempt_a_client_span_below_it(
    monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    with collecting() as collector:
        spans = asked(monkeypatch, collector, 3, {"route": SURE, "student": "ok:card:-0.9"}, stream=stream)
    server, (student, teacher) = server_of(spans), clients_of(spans)
    assert {span.trace_id.hex() for span in spans} == {TRACE} and server.parent_span_id.hex() == PARENT
    assert {student.parent_span_id, teacher.parent_span_id} == {server.span_id}
    assert (server.name, student.name, teacher.name) == (
        "POST /v1/chat/completions",
        "text_completion ok:card:-0.9",
        "text_completion ok:fee",
    )
    of_server = attributes(server)
    assert of_server["redistill.route"] == "teacher" and of_server["redistill.reason"] == "unsure" and of_server["redistill.score"] == -1.8
    assert of_server["redistill.model_version"] == of_server["gen_ai.response.model"] == "ok:fee"
    assert of_server["http.response.status_code"] == 200 and of_server["gen_ai.request.model"] == "any" and "error.type" not in of_server
    for span, side in ((student, "student"), (teacher, "teacher")):
        values = attributes(span)
        assert (values["gen_ai.operation.name"], values["redistill.upstream"]) == ("text_completion", side), "the template is rendered here"
        assert values["server.address"] == "127.0.0.1" and values["gen_ai.request.stream"] is False, "a label is read whole"
        assert (values["gen_ai.usage.input_tokens"], values["gen_ai.usage.output_tokens"]) == (9, 3) and values["server.port"] > 0
    assert {r["service.name"] for r in collector.resources} == {"redistill"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("student", "kind"), [("status-500", "status"), ("reset", "broke-off"), ("empty", "empty"), ("error-200", "error-object")]
)
def test_a_failed_attempt_says_why_and_the_request_that_the_teacher_saved_is_no_error(
    monkeypatch: pytest.MonkeyPatch, student: str, kind: str, stream: bool
) -> None:
    with collecting() as collector:
        spans = asked(monkeypatch, collector, 3, {"route": STUDENT, "student": student, "data": TEXT}, stream=stream)
    failed, teacher = clients_of(spans)
    assert attributes(failed)["error.type"] == kind and failed.status.code == Status.STATUS_CODE_ERROR
    assert server_of(spans).status.code == teacher.status.code == Status.STATUS_CODE_UNSET
    assert attributes(server_of(spans))["redistill.reason"] == f"student-{kind}"


def test_a_request_without_a_completion_and_a_stream_that_broke_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        spans = asked(monkeypatch, collector, 2, {"route": TEACHER, "teacher": "status-500"})
    assert attributes(server_of(spans))["error.type"] == "503" and server_of(spans).status.code == Status.STATUS_CODE_ERROR
    with collecting() as collector:
        spans = asked(monkeypatch, collector, 2, {"route": TEACHER, "teacher": "reset-late", "data": TEXT}, stream=True)
    assert attributes(server_of(spans))["error.type"] == "broke-off" == attributes(clients_of(spans)[0])["error.type"]


def test_no_text_of_a_caller_or_a_model_leaves_the_router(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"model": f"a {SECRET}", "user": "Ada Lovelace", "redistill": {"slice": "secret slice", "key": "customer 17"}}
    for options, count, more in (
        ({"route": SURE, "student": "ok"}, 2, {}),
        ({"route": STUDENT, "student": "ok:balderdash"}, 3, {}),
        ({"route": TEACHER, "teacher": "ok:fee"}, 2, {"tools": [{"type": "function", "function": {"name": SECRET}}]}),
        ({"route": TEACHER}, 1, {"stop": 7}),
    ):
        with collecting() as collector:
            asked_or_refused(monkeypatch, collector, count, options, {**extra, **more})
            raw = b"".join(collector.raw)
        assert raw and not [word for word in (b"4929", b"Lyon", b"card", b"Ada", b"secret slice", b"customer 17") if word in raw]


def asked_or_refused(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, count: int, options: dict[str, Any], body: dict[str, Any]
) -> None:
    async def check() -> None:
        with traced(monkeypatch, collector.url) as traces:
            async with running(**options, traces=traces) as router:
                await router.ask(SECRET, **body)

    asyncio.run(check())
    collector.waiting_for(count)


@pytest.mark.parametrize("collector", ["down", "refuses", "hangs", "no address"])
def test_a_collector_that_fails_hurts_no_request_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], collector: str
) -> None:
    async def check(url: str) -> str:
        said = ""
        with traced(monkeypatch, url) as traces:
            async with running(TEACHER, traces=traces) as router:
                deadline = time.monotonic() + 60.0
                while "spans" not in said:
                    assert time.monotonic() < deadline and (await router.ask()).status == 200
                    said += capfd.readouterr().err
                for _ in range(300):
                    assert (await router.ask()).status == 200
        return said + capfd.readouterr().err

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with collecting(status=400, waits=collector == "hangs") as listening:
        urls = {"down": f"http://127.0.0.1:{free_port()}", "no address": "collector:4318"}
        said = asyncio.run(check(urls.get(collector, listening.url)))
    assert said.count("does not take spans") == 1 and "Traceback" not in said


def test_a_router_ends_although_its_collector_hangs(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    async def check(url: str) -> float:
        with traced(monkeypatch, url) as traces:
            async with running(TEACHER, traces=traces) as router:
                await router.ask()
                begin = time.monotonic()
        return time.monotonic() - begin

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
    with collecting(waits=True) as listening:
        assert asyncio.run(check(listening.url)) < 25.0, "OpenTelemetry by itself waits 30 s"
    assert "the last spans were not sent" in capfd.readouterr().err


def test_a_trace_that_the_caller_does_not_sample_is_passed_on_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(url: str) -> str:
        with traced(monkeypatch, url) as traces:
            async with running(TEACHER, traces=traces) as router:
                await router.ask(headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
                await router.ask(headers={"traceparent": "nonsense", "baggage": "name=Ada"})
                return str(router.teacher.headers["ok:fee"])

    with collecting() as collector:
        last = asyncio.run(check(collector.url))
        spans = collector.waiting_for(2)
    assert TRACE not in {span.trace_id.hex() for span in spans} and server_of(spans).parent_span_id == b""
    assert "traceparent" in last and "Ada" not in last, "baggage may hold anything"


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_traces_are_on_where_an_exporter_is_configured(environment: dict[str, str], on: bool) -> None:
    traces = traces_of(environment)
    assert (traces is not None) == on
    if traces is not None:
        traces.close()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'; the router knows `otlp` and `none`"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', and"),
    ],
)
def test_an_exporter_that_the_router_does_not_have_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        traces_of(environment)
