"""A router between two faulty servers, all on loopback and on one event loop, so that what is left open can be counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from redistill.data.params import DataParams, RecordParams, SourceParams
from redistill.promotion.cascade import Cascade, Engine
from redistill.serving.params import ServeParams
from redistill.serving.router.answering import Answering, Models
from redistill.serving.router.app import Parts, make_app
from redistill.serving.router.asked import Trained
from redistill.serving.router.decision import Decision
from redistill.serving.router.line_log import LineLog
from redistill.serving.router.metrics import Metrics
from redistill.serving.router.plan import Live
from redistill.serving.router.shadow import Compared
from redistill.serving.router.shown import shown_to
from redistill.serving.router.trace_context import Tracer
from redistill.serving.router.upstream import Upstream
from redistill.serving.traffic.log import TrafficLog
from redistill.serving.types import Comparison, Route
from tests.fault_models import FaultModels

TOKEN = "the token of drills"
ENGINE = Engine("vllm", "0.32.0", "bfloat16")
CASCADE = Cascade("sum_logprob", -0.5, 0.1, "a" * 64, (ENGINE,))
TEACHER = Route("none", "teacher", None, "no student passed", "2026-11-22T02:00:00+00:00")
STUDENT = replace(TEACHER, mode="student", model_version="7")
SURE = replace(STUDENT, mode="cascade", cascade=CASCADE)
LABELS = DataParams(
    name="tickets",
    task="classification",
    record=RecordParams(labels=("card", "fee", "pin")),
    source=(SourceParams(path="x.jsonl", splits={"train": 1.0}),),
)
TEXT = DataParams(name="notes", task="generation", source=(SourceParams(path="x.jsonl", splits={"train": 1.0}),))
QUICK = ServeParams(
    student_s=1.5,
    first_token_s=1.5,
    between_tokens_s=1.5,
    total_s=20.0,
    connect_s=5.0,
    breaker_failures=1000,
    breaker_s=0.4,
    max_open=64,
    shadow_share=0.0,
)


@dataclass
class Running:
    """A router that runs: ``live`` may be changed, ``lines`` are the decisions so far."""

    url: str
    session: ClientSession
    student: FaultModels
    teacher: FaultModels
    parts: Parts
    holder: dict[str, Live]
    lines: list[dict[str, Any]]
    newer: FaultModels

    async def ask(self, text: str = "my card is lost", headers: dict[str, str] | None = None, **body: Any) -> Any:
        """Send a chat request; the response has its body read."""
        message = {"messages": [{"role": "user", "content": text}], "model": "any"}
        response = await self.session.post(f"{self.url}/v1/chat/completions", json={**message, **body}, headers=headers)
        await response.read()
        return response

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]


@asynccontextmanager
async def running(
    route: Route = SURE,
    student: str = "ok",
    teacher: str = "ok:fee",
    data: DataParams = LABELS,
    params: ServeParams = QUICK,
    help_when_down: bool = False,
    trained: Trained | None = None,
    key: str = "",
    observe: Callable[[Compared], None] = lambda compared: None,
    record: Callable[[Comparison], None] = lambda comparison: None,
    newer: str = "ok:pin",
    counted: Callable[[Decision], None] = lambda decision: None,
    traces: Tracer | None = None,
    traffic: TrafficLog | None = None,
) -> AsyncIterator[Running]:
    """A router whose servers answer with these models of ``tests.fault_models``; ``newer`` is what the server ``next`` has, which is version 8."""
    models = {"student": FaultModels(), "teacher": FaultModels(), "next": FaultModels()}
    servers = {side: TestServer(each.app(), handler_cancellation=True) for side, each in models.items()}
    for server in servers.values():
        await server.start_server()
    urls = {side: str(server.make_url("/v1")) for side, server in servers.items()}
    holder = {"live": Live(route, readable=True, unverified="", engine=ENGINE)}
    upstreams = {place: Upstream("teacher" if place == "teacher" else "student", urls[place], "", params) for place in models}
    both = Models(upstreams, shown_to(teacher, data, 16), lambda version: shown_to(newer if version == "8" else student, data, 16))
    answering = Answering(
        both,
        data,
        params,
        lambda: holder["live"],
        salt="s",
        help_when_down=help_when_down,
        observe=observe,
        record=record,
        traffic=traffic,
    )
    background = () if traffic is None else (traffic.run,)
    log = _Kept()
    parts = Parts(
        both,
        trained or Trained(data, 2000),
        params,
        lambda: holder["live"],
        log,
        Metrics(),
        answering,
        background,
        key,
        traces,
        counted,
        TOKEN,
    )
    router = TestServer(make_app(parts), handler_cancellation=True)
    await router.start_server()
    try:
        async with ClientSession() as session:
            yield Running(
                str(router.make_url("")).rstrip("/"),
                session,
                models["student"],
                models["teacher"],
                parts,
                holder,
                log.lines,
                models["next"],
            )
    finally:
        await router.close()
        for server in servers.values():
            await server.close()


async def settled(running: Running, limit_s: float = 20.0) -> None:
    """Wait until no request is in work at either server."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while running.student.open or running.teacher.open:
        assert asyncio.get_running_loop().time() < deadline, f"{running.student.open} and {running.teacher.open} requests are still open"
        await asyncio.sleep(0.01)


class _Kept(LineLog):
    """Keeps the lines instead of writing them."""

    def __init__(self) -> None:
        super().__init__(Path("unused"))
        self.lines: list[dict[str, Any]] = []

    def add(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
