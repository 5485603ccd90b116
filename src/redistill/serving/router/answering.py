"""Answers one request: the student where the plan says so and its completion holds, the teacher otherwise.

Nothing is sent before it is known who answers. So after any failure of the student until then the teacher answers, and the caller sees one completion.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from redistill.data.params import DataParams
from redistill.data.stopping import cut
from redistill.errors import ConfigError
from redistill.evaluation.outcomes import without_reasoning
from redistill.serving.params import ServeParams
from redistill.serving.router.breaker import Ticket
from redistill.serving.router.decision import DRILL, Decision
from redistill.serving.router.finished import Finished, Traffic
from redistill.serving.router.judging import finite, objection_to, scored
from redistill.serving.router.plan import Live, Plan, planned
from redistill.serving.router.replies import read_completion
from redistill.serving.router.sending import Sending, read_raw
from redistill.serving.router.shadow import Attempt, Compared, Sample, Shadow
from redistill.serving.router.shown import Shown
from redistill.serving.router.streams import passed_on, rewritten
from redistill.serving.router.types import Asked, Completion, Limit, Side, UpstreamError
from redistill.serving.router.upstream import Upstream
from redistill.serving.router.written import Written
from redistill.serving.types import Comparison

HELPED = "the teacher cannot be reached; the student answered, also where it is not sure"


@dataclass(slots=True)
class Models:
    """Both models: their servers, and how each is shown a request. ``student`` makes what shows a version of the student.

    The servers are named ``teacher`` and ``student``; one named ``next`` may have another version of the student. ``teacher`` is another one after it was
    locked again.
    """

    upstreams: Mapping[str, Upstream]
    teacher: Shown
    student: Callable[[str], Shown]


class Answering:
    def __init__(
        self,
        models: Models,
        data: DataParams,
        params: ServeParams,
        live: Callable[[], Live],
        *,
        salt: str,
        help_when_down: bool,
        observe: Callable[[Compared], None] = lambda compared: None,
        record: Callable[[Comparison], None] = lambda comparison: None,
        traffic: Traffic | None = None,
    ) -> None:
        self.shadow = Shadow(params.shadow_share, data, self._beside, observe, record, traffic.beside if traffic else None)
        self.traffic = traffic
        self._models, self._data, self._params, self._live = models, data, params, live
        self._salt, self._help = salt, help_when_down

    async def answer(self, request: web.Request, asked: Asked, decision: Decision) -> web.StreamResponse:
        live = self._live().chosen(asked.key, self._salt)
        plan = planned(asked, live, salt=self._salt, help_when_down=self._help)
        decision.mode, decision.slice = live.route.answers, asked.prompt.slice if asked.prompt else ""
        decision.reason, decision.detail = plan.reason, plan.detail
        # A drill says nothing about the student.
        decision.student = live.route.model_version or "" if plan.first == "student" and not decision.drill else ""
        limit_s = min(self._params.total_s, asked.deadline_s or math.inf)
        one = _Request(self, asked, plan, live, Sending(request, asked, decision), asyncio.get_running_loop().time() + limit_s)
        response = await one.answered()
        if decision.ended == "done" and not decision.drill:
            self._consider(one, plan, live)
        return response

    def _consider(self, one: _Request, plan: Plan, live: Live) -> None:
        """The caller has its response: it may be compared with the other model, and kept."""
        asked, decision, asks_beside = one.asked, one.decision, False
        if plan.may_shadow(live):
            guarded, by_student = plan.first == "student" and live.route.pin == "none", decision.route == "student"
            asks_beside = self.shadow.consider(Sample(asked, decision.id, live, guarded, by_student, one.of_student, one.of_teacher))
        if self.traffic is not None and asked.prompt is not None:
            finished = Finished(asked.prompt, decision, live.route.model_version or "", one.completions)
            self.traffic.finished(finished, asks_beside=asks_beside)

    async def _beside(self, side: Side, asked: Asked, live: Live) -> Completion:
        """A model's completion of a request that has its answer already."""
        upstream = self._models.upstreams["teacher" if side == "teacher" else live.place]
        shown = self._models.teacher if side == "teacher" else self._models.student(live.route.model_version or "")
        try:
            body = shown.body(asked, stream=False, scored=side == "student")
        except ConfigError as error:
            raise UpstreamError("not-trained", str(error), trips=False) from None
        if (ticket := upstream.ticket()) is None:
            raise UpstreamError("not-asked", f"the {side}'s server is not asked for a while, after failures", trips=False)
        limit_s = self._params.total_s if side == "teacher" else self._params.student_s
        return await upstream.whole(shown.path(asked), body, Limit(limit_s), self.read, ticket)

    def read(self, body: bytes) -> Completion:
        """The completion in a reply, as a caller gets it.

        Raises:
            UpstreamError: it is none, or empty.
        """
        completion = read_completion(body)
        text = cut(without_reasoning(completion.text), self._data.stops)
        if not text:
            # It may be what the caller's own stop sequences or max_tokens ask for.
            raise UpstreamError("empty", "an empty completion", trips=False)
        return replace(completion, text=text)


class _Request:
    """One request on its way through the models."""

    def __init__(self, router: Answering, asked: Asked, plan: Plan, live: Live, sending: Sending, end: float) -> None:
        self._router, self.asked, self._plan, self._live = router, asked, plan, live
        self._sending, self.decision, self._end = sending, sending.decision, end
        self._spare: Completion | None = None
        self.of_student: Attempt | None = None
        self.of_teacher: Attempt | None = None

    @property
    def completions(self) -> dict[Side, str]:
        """Each model's completion, used or not."""
        attempts: dict[Side, Attempt | None] = {"student": self.of_student, "teacher": self.of_teacher}
        return {side: attempt.completion.text for side, attempt in attempts.items() if attempt is not None}

    async def answered(self) -> web.StreamResponse:
        if self._plan.first == "student" and (response := await self._by_student()) is not None:
            return response
        return await self._by_teacher()

    async def _by_student(self, warning: str = "") -> web.StreamResponse | None:
        """The student's response; None if the teacher must answer, and the decision says why."""
        upstream, decision = self._router._models.upstreams[self._live.place], self.decision
        reason, detail = (decision.reason, decision.detail) if not warning else ("teacher-down", "")
        if decision.drill:
            decision.reason, decision.detail = DRILL, "the student is treated as if its server refused"
            return None
        version = self._live.route.model_version or ""
        shown, model = self._router._models.student(version), version
        try:
            body = shown.body(self.asked, stream=not self._held, scored=self._plan.scored)
        except ConfigError as error:
            decision.reason, decision.detail = "not-trained", str(error)
            return None
        if (ticket := upstream.ticket()) is None:
            decision.reason, decision.detail = "student-down", f"not asked for {upstream.retry_after():.0f} s after failures"
            return None
        self._sending.warning = warning
        try:
            if not self._held:
                decision.answered_by("student", model, reason, detail)
                return await self._streamed(upstream, shown, body, ticket)
            completion = await self._whole(upstream, shown, body, self._student_limit, ticket)
            if (deferred := self._why_deferred(completion, scored_too=self._plan.scored and not warning)) is not None:
                # Of what is only unsure, the completion may still help if the teacher cannot be reached.
                self._spare = completion if deferred[0] == "unsure" else None
                decision.reason, decision.detail = deferred
                return None
            decision.answered_by("student", model, "sure" if self._plan.scored and not warning else reason, detail)
            return await self._sending.completion(completion, shown.model)
        except UpstreamError as error:
            decision.failures.append(("student", error.kind))
            if self._sending.begun:
                return self._sending.response
            decision.route = None
            decision.reason, decision.detail = f"student-{error.kind}", error.detail
            return None

    async def _by_teacher(self) -> web.StreamResponse:
        upstream, shown, decision = self._router._models.upstreams["teacher"], self._router._models.teacher, self.decision
        self._sending.warning = ""
        task = self.asked.prompt is not None
        body = shown.body(self.asked, stream=not self._held) if task else shown.untouched(self.asked)
        if (ticket := upstream.ticket()) is None:
            return await self._without_teacher(None)
        decision.answered_by("teacher", shown.model, decision.reason, decision.detail)
        try:
            if not task:
                return await self._untouched(upstream, shown, body, ticket)
            if not self._held:
                return await self._streamed(upstream, shown, body, ticket)
            return await self._sending.completion(await self._whole(upstream, shown, body, self._limit, ticket), shown.model)
        except UpstreamError as error:
            decision.failures.append(("teacher", error.kind))
            if self._sending.response is not None:
                return self._sending.response
            if error.kind == "refused":
                return self._sending.body(error.body, error.status)
            return await self._without_teacher(error)

    async def _without_teacher(self, error: UpstreamError | None) -> web.StreamResponse:
        """After a failure of the teacher: the student may help where that is allowed, otherwise the error says when to try again."""
        decision = self.decision
        if self._plan.student_may_help:
            if self._spare is not None:
                decision.answered_by("student", self._live.route.model_version or "", "teacher-down")
                self._sending.warning = HELPED
                shown = self._router._models.student(self._live.route.model_version or "")
                return await self._sending.completion(self._spare, shown.model)
            if ("student" not in [side for side, _ in decision.failures]) and (response := await self._by_student(HELPED)) is not None:
                return response
        decision.route, decision.version = None, ""
        wait_s = max(self._router._models.upstreams["teacher"].retry_after(), 1.0)
        after = (error.retry_after if error else None) or str(math.ceil(wait_s))
        busy = error is not None and error.status == 429
        reason = error.detail if error else "it is not asked for a while, after failures"
        return self._sending.error(
            429 if busy else 503, f"the teacher gave no completion: {reason}", "upstream_unavailable", {"Retry-After": after}
        )

    @property
    def _held(self) -> bool:
        """Whether a completion is read whole before it is sent: to score it, or to check it against the grammar of the task. Free text streams."""
        return self._plan.scored or self._router._data.grammar is not None or not self.asked.stream

    @property
    def _student_limit(self) -> Limit:
        """How long the student may take: of a short time that the caller gives, half is left for the teacher."""
        whole = self._plan.scored or self._router._data.grammar is not None
        longest_s = self._router._params.student_s if whole else self._router._params.total_s
        left_s = self._limit.seconds
        return Limit(longest_s) if longest_s <= left_s / 2 else Limit(left_s / 2, callers=True)

    @property
    def _limit(self) -> Limit:
        """The time that is left. If the caller gave less than the router would wait, running out of it is no failure of the server."""
        left_s = max(0.001, self._end - asyncio.get_running_loop().time())
        return Limit(left_s, callers=left_s < self._router._params.total_s / 2)

    async def _whole(self, upstream: Upstream, shown: Shown, body: dict[str, Any], limit: Limit, ticket: Ticket) -> Completion:
        begin = time.perf_counter()
        completion = await upstream.whole(shown.path(self.asked), body, limit, self._router.read, ticket)
        self._keep(upstream.side, completion, begin)
        return completion

    def _keep(self, side: Side, completion: Completion, begin: float) -> None:
        attempt = Attempt(completion, time.perf_counter() - begin)
        if side == "student":
            self.of_student = attempt
        else:
            self.of_teacher = attempt

    def _why_deferred(self, completion: Completion, *, scored_too: bool) -> tuple[str, str] | None:
        """Why the student's completion is not used, as reason and detail; None if it is."""
        data, prompt = self._router._data, self.asked.prompt
        assert prompt is not None
        if (objection := objection_to(completion, prompt, data)) is not None or not scored_too:
            return objection
        cascade = self._live.route.cascade
        assert cascade is not None
        score = scored(completion, cascade.score, data)
        self.decision.score = finite(score)
        choice = cascade.choose(() if score is None else (score,))
        return None if choice.answers == "student" else ("unsure", choice.reason)

    async def _streamed(self, upstream: Upstream, shown: Shown, body: dict[str, Any], ticket: Ticket) -> web.StreamResponse:
        written, begin = Written(self.asked, shown.model, self.decision.id), time.perf_counter()
        async with upstream.stream(shown.path(self.asked), body, self._limit, ticket) as events:
            response, completion = await rewritten(events, written, self._sending, upstream.side)
        self._keep(upstream.side, completion, begin)
        return response

    async def _untouched(self, upstream: Upstream, shown: Shown, body: dict[str, Any], ticket: Ticket) -> web.StreamResponse:
        """A request of another kind than the task's, and its response: both are passed on as they came."""
        path = shown.path(self.asked)
        if not self.asked.stream:
            return self._sending.body(await upstream.whole(path, body, self._limit, read_raw, ticket), 200)
        async with upstream.stream(path, body, self._limit, ticket) as events:
            return await passed_on(events, self._sending, upstream.side)
