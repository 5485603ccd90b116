"""Answers one request: the student where the plan says so and its completion holds, the teacher otherwise.

Nothing is sent before it is known who answers. So after any failure of the student until then the teacher answers, and the caller sees one completion.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from redistill.data.params import DataParams
from redistill.data.stopping import cut
from redistill.errors import ConfigError
from redistill.evaluation.confidence.all_scores import confidence_of
from redistill.evaluation.outcomes import objection, without_reasoning
from redistill.evaluation.row_scores import chrf_scores
from redistill.serving.params import ServeParams
from redistill.serving.router.breaker import Ticket
from redistill.serving.router.decision import Decision
from redistill.serving.router.finished import Finished, Traffic
from redistill.serving.router.plan import Live, Plan, planned
from redistill.serving.router.replies import read_completion
from redistill.serving.router.sending import Sending, read_raw
from redistill.serving.router.shadow import Compared, Shadow
from redistill.serving.router.shown import Shown
from redistill.serving.router.streams import passed_on, rewritten
from redistill.serving.router.types import Asked, Completion, Limit, Side, UpstreamError
from redistill.serving.router.upstream import Upstream
from redistill.serving.router.written import Written
from redistill.teacher.endings import LENGTH, ending

HELPED = "the teacher cannot be reached; the student answered, also where it is not sure"


@dataclass(frozen=True, slots=True)
class Models:
    """Both models: their servers, and how each is shown a request. ``student`` makes what shows a version of the student."""

    upstreams: Mapping[Side, Upstream]
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
        traffic: Traffic | None = None,
    ) -> None:
        self.shadow = Shadow(params.shadow_share, self._by_teacher_beside, self._differ, observe, traffic.beside if traffic else None)
        self.traffic = traffic
        self._models, self._data, self._params, self._live = models, data, params, live
        self._salt, self._help = salt, help_when_down

    async def answer(self, request: web.Request, asked: Asked, decision: Decision) -> web.StreamResponse:
        live = self._live()
        plan = planned(asked, live, salt=self._salt, help_when_down=self._help)
        decision.mode, decision.slice = live.route.answers, asked.prompt.slice if asked.prompt else ""
        decision.reason, decision.detail = plan.reason, plan.detail
        limit_s = min(self._params.total_s, asked.deadline_s or math.inf)
        one = _Request(self, asked, plan, live, Sending(request, asked, decision), asyncio.get_running_loop().time() + limit_s)
        response = await one.answered()
        version, asks_beside = live.route.model_version or "", False
        if plan.first == "student" and live.route.pin == "none" and decision.ended == "done":
            asks_beside = self.shadow.consider(asked, decision.id, version, one.of_student)
        if self.traffic is not None and asked.prompt is not None and decision.ended == "done":
            self.traffic.finished(Finished(asked.prompt, decision, version, one.completions), asks_beside=asks_beside)
        return response

    async def _by_teacher_beside(self, asked: Asked) -> Completion:
        """The teacher's completion of a request that has its answer already."""
        upstream, shown = self._models.upstreams["teacher"], self._models.teacher
        body = shown.body(asked, stream=False)
        if (ticket := upstream.ticket()) is None:
            raise UpstreamError("not-asked", "the teacher's server is not asked for a while, after failures", trips=False)
        return await upstream.whole(shown.path(asked), body, Limit(self._params.total_s), self.read, ticket)

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

    def _differ(self, student: str, teacher: str) -> float:
        """The disagreement of two completions, as the calibration counts it: 0 or 1, and of free text 1 - chrF."""
        grammar = self._data.grammar
        if grammar is None:
            return 1.0 - chrf_scores([(teacher, student)])[0]
        return float(grammar.spelled(teacher) != grammar.spelled(student))


class _Request:
    """One request on its way through the models."""

    def __init__(self, router: Answering, asked: Asked, plan: Plan, live: Live, sending: Sending, end: float) -> None:
        self._router, self._asked, self._plan, self._live = router, asked, plan, live
        self._sending, self._decision, self._end = sending, sending.decision, end
        self._spare: Completion | None = None
        self.of_student: Completion | None = None
        self.completions: dict[Side, str] = {}
        """Each model's completion, used or not."""

    async def answered(self) -> web.StreamResponse:
        if self._plan.first == "student" and (response := await self._by_student()) is not None:
            return response
        return await self._by_teacher()

    async def _by_student(self, warning: str = "") -> web.StreamResponse | None:
        """The student's response; None if the teacher must answer, and the decision says why."""
        upstream, decision = self._router._models.upstreams["student"], self._decision
        reason, detail = (decision.reason, decision.detail) if not warning else ("teacher-down", "")
        version = self._live.route.model_version or ""
        shown, model = self._router._models.student(version), version
        try:
            body = shown.body(self._asked, stream=not self._held, scored=self._plan.scored)
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
            if (deferred := self._why_deferred(completion, scored=self._plan.scored and not warning)) is not None:
                # Of what is only unsure, the completion may still help if the teacher cannot be reached.
                self._spare = completion if deferred[0] == "unsure" else None
                decision.reason, decision.detail = deferred
                return None
            decision.answered_by("student", model, "sure" if self._plan.scored and not warning else reason, detail)
            self.of_student = completion
            return await self._sending.completion(completion, shown.model)
        except UpstreamError as error:
            decision.failures.append(("student", error.kind))
            if self._sending.begun:
                return self._sending.response
            decision.route = None
            decision.reason, decision.detail = f"student-{error.kind}", error.detail
            return None

    async def _by_teacher(self) -> web.StreamResponse:
        upstream, shown, decision = self._router._models.upstreams["teacher"], self._router._models.teacher, self._decision
        self._sending.warning = ""
        task = self._asked.prompt is not None
        body = shown.body(self._asked, stream=not self._held) if task else shown.untouched(self._asked)
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
        decision = self._decision
        if self._plan.student_may_help:
            if self._spare is not None:
                decision.answered_by("student", self._live.route.model_version or "", "teacher-down")
                self._sending.warning = HELPED
                self.of_student = self._spare
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
        return self._plan.scored or self._router._data.grammar is not None or not self._asked.stream

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
        completion = await upstream.whole(shown.path(self._asked), body, limit, self._router.read, ticket)
        self.completions[upstream.side] = completion.text
        return completion

    def _why_deferred(self, completion: Completion, *, scored: bool) -> tuple[str, str] | None:
        """Why the student's completion is not used, as reason and detail; None if it is."""
        data, prompt = self._router._data, self._asked.prompt
        assert prompt is not None
        kind, why = objection(data.grammar, completion.text, prompt.text, cut_off=ending(completion.finish) == LENGTH)
        if kind:
            return kind, why
        if not scored:
            return None
        cascade = self._live.route.cascade
        assert cascade is not None
        # Only the one that the cascade looks at: computing all five takes five times as long.
        score = confidence_of(cascade.score, completion.trace, data.grammar)
        self._decision.score = score.value if score is not None and math.isfinite(score.value) else None
        choice = cascade.choose(() if score is None else (score,))
        return None if choice.answers == "student" else ("unsure", choice.reason)

    async def _streamed(self, upstream: Upstream, shown: Shown, body: dict[str, Any], ticket: Ticket) -> web.StreamResponse:
        written = Written(self._asked, shown.model, self._decision.id)
        async with upstream.stream(shown.path(self._asked), body, self._limit, ticket) as events:
            response, completion = await rewritten(events, written, self._sending, upstream.side)
        self.completions[upstream.side] = completion.text
        self.of_student = completion if upstream.side == "student" else None
        return response

    async def _untouched(self, upstream: Upstream, shown: Shown, body: dict[str, Any], ticket: Ticket) -> web.StreamResponse:
        """A request of another kind than the task's, and its response: both are passed on as they came."""
        path = shown.path(self._asked)
        if not self._asked.stream:
            return self._sending.body(await upstream.whole(path, body, self._limit, read_raw, ticket), 200)
        async with upstream.stream(path, body, self._limit, ticket) as events:
            return await passed_on(events, self._sending, upstream.side)
