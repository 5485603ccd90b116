"""The HTTP server: OpenAI's paths, health and metrics, and who may call."""

from __future__ import annotations

import asyncio
import gc
import hmac
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from redistill.errors import ConfigError
from redistill.serving.params import ServeParams
from redistill.serving.router.answering import Answering, Models
from redistill.serving.router.asked import Trained, read_asked
from redistill.serving.router.decision import DRILL_HEADER, Decision
from redistill.serving.router.line_log import LineLog
from redistill.serving.router.metrics import Metrics
from redistill.serving.router.plan import Live
from redistill.serving.router.saying import say
from redistill.serving.router.trace_context import Tracer
from redistill.serving.router.types import BadRequestError, Endpoint
from redistill.serving.router.written import error_body
from redistill.serving.types import Rollout

_GRACE_S = 5.0
_COLLECT_AFTER = 20_000
Background = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a router is made of. ``background`` runs as long as it does. ``key`` is what callers must send; empty if anybody may call.

    ``counted`` gets each decision when its request has ended. ``drill_token`` is what a drill must send; without one there are no drills.
    """

    models: Models
    trained: Trained
    params: ServeParams
    live: Callable[[], Live]
    log: LineLog
    metrics: Metrics
    answering: Answering
    background: tuple[Background, ...] = ()
    key: str = ""
    traces: Tracer | None = None
    counted: Callable[[Decision], None] = lambda decision: None
    drill_token: str = ""


def run(parts: Parts, host: str, port: int) -> None:
    """Serve until interrupted; requests in work are finished first."""
    import uvloop

    _spare_the_collector()
    web.run_app(
        make_app(parts),
        host=host,
        port=port,
        # A caller who leaves ends the work for it.
        handler_cancellation=True,
        print=None,
        access_log=None,
        shutdown_timeout=10.0,
        loop=uvloop.new_event_loop(),
    )


def _spare_the_collector() -> None:
    """What was loaded before the first request stays until the end: tokenizers, libraries. The garbage collector need not look through it again and again.

    A request makes a few hundred objects, so with Python's threshold of 700 the collector runs for almost every one.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


def make_app(parts: Parts) -> web.Application:
    """The application; it is served with ``handler_cancellation``, so that a caller who leaves ends the work for it."""
    app = web.Application(client_max_size=int(parts.params.max_body_mb * (1 << 20)), middlewares=[_as_openai])
    server = _Server(parts)
    app.cleanup_ctx.append(server.running)
    app.router.add_post("/v1/chat/completions", server.handler("chat"))
    app.router.add_post("/v1/completions", server.handler("completions"))
    app.router.add_get("/v1/models", server.models)
    app.router.add_get("/healthz", server.healthz)
    app.router.add_get("/readyz", server.readyz)
    app.router.add_get("/metrics", server.metrics)
    return app


class _Server:
    def __init__(self, parts: Parts) -> None:
        self._parts, self._open = parts, 0

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        parts = self._parts
        async with AsyncExitStack() as stack:
            for upstream in parts.models.upstreams.values():
                await stack.enter_async_context(upstream)
            if parts.traces is not None:
                stack.callback(parts.traces.close)
            stack.push_async_callback(parts.answering.shadow.close)
            tasks = [asyncio.ensure_future(_going_on(work)) for work in (parts.log.run, *parts.background)]
            yield
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    def handler(self, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self._authorise(request)
            if self._open >= self._parts.params.max_open:
                self._parts.metrics.refused.labels("too many").inc()
                raise _refused(
                    503, f"{self._open} requests are in work, which is the limit (serve.max_open); try again", {"Retry-After": "1"}
                )
            self._open += 1
            try:
                # Also callers who send or read slowly must give their place back; a model has its own, shorter limits.
                async with asyncio.timeout(self._parts.params.total_s + _GRACE_S):
                    return await self._answer(request, endpoint)
            except TimeoutError:
                raise _refused(503, "the request took longer than serve.total_s", {"Retry-After": "1"}) from None
            finally:
                self._open -= 1

        return handle

    async def _answer(self, request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
        parts = self._parts
        decision, asked = Decision(mode="", stream=False, drill=_is_drill(request, parts.drill_token)), None
        trace = parts.traces.request(endpoint, request.headers) if parts.traces is not None and not decision.drill else None
        try:
            asked = read_asked(endpoint, await request.read(), request.headers, parts.trained)
            decision.stream = asked.stream
            return await parts.answering.answer(request, asked, decision)
        except (BadRequestError, ConfigError) as error:
            decision.reason, decision.ended, decision.status = "bad-request", "error", 400
            raise _refused(400, str(error), kind="invalid_request_error") from None
        except (asyncio.CancelledError, ConnectionResetError):
            decision.ended = "left"
            raise
        except web.HTTPException:
            raise
        except Exception as error:
            # A fault of the router itself: the caller gets an answer in the form that it knows, and the log says where to look.
            traceback.print_exc()
            decision.ended, decision.status = "error", 500
            decision.reason = decision.reason or "router"
            raise _refused(500, f"the router failed ({type(error).__name__}); see its standard error", kind="server_error") from error
        finally:
            decision.finish()
            if trace is not None:
                trace.end(decision, asked)
            if decision.reason:
                parts.log.add(decision.line())
                parts.metrics.count(decision)
                parts.counted(decision)

    async def models(self, request: web.Request) -> web.Response:
        self._authorise(request)
        name = self._parts.trained.data.name
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "redistill"}]})

    async def healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """Ready if somebody can answer: the teacher, or a student that may."""
        live, models = self._parts.live(), self._parts.models
        # Not a ticket, which would take the place of the one request that tries a server again.
        waits = {side: round(upstream.retry_after(), 1) for side, upstream in models.upstreams.items()}
        ready = waits["teacher"] == 0.0 or (live.route.answers == "student" and live.unverified == "" and waits["student"] == 0.0)
        state = {
            "answers": live.route.answers,
            "version": live.route.model_version,
            "unverified": live.unverified,
            **({} if live.older is None or live.route.rollout is None else {"rollout": _rollout(live.route.rollout, live.older)}),
            "not asked for s": waits,
        }
        return web.json_response({"ready": ready, **state}, status=200 if ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        metrics = self._parts.metrics
        metrics.open.set(self._open)
        metrics.lost_lines.set(self._parts.log.lost)
        for side, count in self._parts.answering.shadow.counts.items():
            metrics.sampled.labels(side).set(count.sampled)
            metrics.compared.labels(side).set(count.compared)
        if (traffic := self._parts.answering.traffic) is not None:
            metrics.traffic_written.set(traffic.written)
            metrics.traffic_lost.set(traffic.lost)
            metrics.traffic_waiting.set(traffic.waiting)
        live = self._parts.live()
        metrics.verified.set(live.unverified == "")
        metrics.rollout.set(1.0 if live.route.rollout is None else live.route.rollout.share)
        for place, upstream in self._parts.models.upstreams.items():
            metrics.breaker.labels(place).set(upstream.retry_after() > 0)
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _authorise(self, request: web.Request) -> None:
        key = self._parts.key
        if not key:
            return
        sent = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(sent, b"Bearer " + key.encode()):
            self._parts.metrics.refused.labels("key").inc()
            raise _refused(401, "the key is missing or wrong; send it as `Authorization: Bearer KEY`", kind="authentication_error")


def _is_drill(request: web.Request, token: str) -> bool:
    """Whether a request is a drill: with the router's token, and from this machine. It can do no more than demand the teacher, which every caller may."""
    sent = request.headers.get(DRILL_HEADER, "").encode("utf-8", "surrogateescape")
    return bool(sent and token) and request.remote in ("127.0.0.1", "::1") and hmac.compare_digest(sent, token.encode())


def _rollout(rollout: Rollout, older: Live) -> dict[str, Any]:
    return {"share": rollout.share, "since": rollout.since, "version before": rollout.version, "unverified": older.unverified}


async def _going_on(work: Background) -> None:
    """Run a task for as long as the server; one that fails is told and started again, because nobody waits for it."""
    while True:
        try:
            await work()
        except Exception as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                # It failed while it ended; the router must end too.
                say(f"warning: a background task failed at its end ({type(error).__name__}: {error})")
                return
            say(f"warning: a background task failed ({type(error).__name__}: {error}) and is started again")
        await asyncio.sleep(1.0)


def _refused(status: int, message: str, headers: dict[str, str] | None = None, kind: str = "unavailable") -> web.HTTPException:
    """An answer of the router itself, as OpenAI's interface spells errors."""
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        500: web.HTTPInternalServerError,
        503: web.HTTPServiceUnavailable,
    }
    text: Any = json.dumps(error_body(message, kind))
    return kinds[status](text=text, content_type="application/json", headers=headers)


@web.middleware
async def _as_openai(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """The server's own errors in the same form: unknown paths, bodies that are too large."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.content_type == "application/json" or error.status < 400:
            raise
        return web.json_response(error_body(error.reason, "invalid_request_error"), status=error.status)
