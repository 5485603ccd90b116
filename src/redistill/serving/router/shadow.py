"""Asks the other model beside the traffic: of a sampled request that one model answered, the other's completion too, after the caller has its answer.

Where the live system planned to ask the student, the comparison is for the guard: it counts the disagreement of the system with its teacher over all sampled
requests, 0 where the teacher answered. That is what the threshold promised. Where the teacher answers by a pin, a share or a rule, the student is asked, if
its version is verified. Wherever both completions are known, a record without text is written, for rehearsals.

Requests are sampled by a hash, so who answers them plays no part. Never more than a few run at once. While these run, no other sampled request is compared,
also none that the teacher answered: to leave out only those of the student would show too little disagreement. What is left out is counted, because a guard
that sees nothing would look like one that has nothing to report.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from redistill.data.params import DataParams
from redistill.serving.router.judging import differ, finite, objection_to, scored
from redistill.serving.router.plan import Live, in_share
from redistill.serving.router.saying import say
from redistill.serving.router.types import Asked, Completion, Side, UpstreamError
from redistill.serving.types import Comparison

_SALT = "shadow"
_MOST_OPEN = 8
_ENOUGH, _FEWEST_DONE = 100, 0.5
"""After so many sampled requests, less than this share of them compared is told."""
SCORE = "sum_logprob"
"""What is recorded of the student's completions where no cascade names another score."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One sampled request: how far the system's completion is from the teacher's, in [0, 1]."""

    id: str
    version: str
    disagreement: float
    by_student: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """A model's completion, and how long it took."""

    completion: Completion
    seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A request that was answered: what is known of each model's completion. ``guarded``: the live system planned to ask the student."""

    asked: Asked
    id: str
    live: Live
    guarded: bool
    by_student: bool
    student: Attempt | None
    teacher: Attempt | None

    @property
    def version(self) -> str:
        return self.live.route.model_version or ""

    @property
    def other(self) -> Side:
        """The model that is asked beside."""
        return "teacher" if self.guarded or self.by_student else "student"


Ask = Callable[[Side, Asked, Live], Awaitable[Completion]]
"""Completes a request with a model; the student's with what its scores are computed from."""


@dataclass(slots=True)
class Count:
    sampled: int = 0
    compared: int = 0
    warned: bool = False


class Shadow:
    """``observe`` gets each comparison for the guard, ``record`` each pair of completions, ``completed`` the text of each completion beside an answer."""

    def __init__(
        self,
        share: float,
        data: DataParams,
        ask: Ask,
        observe: Callable[[Compared], None],
        record: Callable[[Comparison], None],
        completed: Callable[[str, Side, str | None], None] | None = None,
    ) -> None:
        self._share, self._data, self._ask, self._observe, self._record = share, data, ask, observe, record
        self._completed = completed or (lambda request_id, side, text: None)
        self._running: set[asyncio.Task[None]] = set()
        self.counts: dict[Side, Count] = {"teacher": Count(), "student": Count()}
        """By the model that is asked beside."""

    def consider(self, sample: Sample) -> bool:
        """Sample a request that has its answer.

        Returns:
            Whether the other model is asked beside it; ``completed`` is called then, once.
        """
        asked = sample.asked
        if self._share <= 0.0 or asked.prompt is None or not in_share(sample.id, self._share, _SALT):
            return False
        count, asks = self.counts[sample.other], False
        count.sampled += 1
        if len(self._running) >= _MOST_OPEN:
            pass  # counted as sampled and not compared, also where the teacher answered
        elif sample.guarded and not sample.by_student:
            # The teacher answered: the system agrees with it. Of a student that failed there is nothing to compare.
            count.compared += 1
            self._observe(Compared(sample.id, sample.version, 0.0, by_student=False))
            self._written(sample)
        else:
            task = asyncio.ensure_future(self._compare(sample, count))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            asks = True
        self._tell_if_silent(sample.other, count)
        return asks

    async def _compare(self, sample: Sample, count: Count) -> None:
        begin, text = time.perf_counter(), None
        try:
            completion = await self._ask(sample.other, sample.asked, sample.live)
            text = completion.text
        except UpstreamError:
            return  # counted as sampled and not compared
        finally:
            self._completed(sample.id, sample.other, text)
        attempt = Attempt(completion, time.perf_counter() - begin)
        whole = replace(sample, teacher=attempt) if sample.by_student else replace(sample, student=attempt)
        if whole.student is None or whole.teacher is None:
            return  # a request that was passed on as it came
        count.compared += 1
        if sample.guarded:
            value = differ(whole.student.completion.text, whole.teacher.completion.text, self._data)
            self._observe(Compared(sample.id, sample.version, value, by_student=True))
        self._written(await self._with_score(whole))

    async def _with_score(self, sample: Sample) -> Sample:
        """A student that answers alone was not asked for probabilities: it is asked again, and they count if it writes the same."""
        assert sample.student is not None
        if not sample.by_student or sample.student.completion.trace is not None:
            return sample
        try:
            again = await self._ask("student", sample.asked, sample.live)
        except UpstreamError:
            return sample
        same = again.text == sample.student.completion.text
        return sample if not same else replace(sample, student=Attempt(again, sample.student.seconds))

    def _written(self, sample: Sample) -> None:
        """Record both completions. Of a student that failed there is none; the line says that the guard counted the request."""
        prompt = sample.asked.prompt
        if sample.teacher is None or prompt is None or (sample.student is None and not sample.guarded):
            return
        route, teacher = sample.live.route, sample.teacher.completion
        student = None if sample.student is None else sample.student.completion
        name = SCORE if route.cascade is None else route.cascade.score
        objection = None if student is None else objection_to(student, prompt, self._data)
        self._record(
            Comparison(
                id=sample.id,
                at=round(time.time(), 3),
                version=sample.version,
                slice=prompt.slice,
                live=route.answers,
                by_student=sample.by_student,
                guarded=sample.guarded,
                disagreement=None if student is None else round(differ(student.text, teacher.text, self._data), 5),
                score_name=name,
                score=None if student is None else finite(scored(student, name, self._data)),
                objection="" if objection is None else objection[0],
                student_s=None if sample.student is None else round(sample.student.seconds, 5),
                teacher_s=round(sample.teacher.seconds, 5),
                student_tokens=None if student is None else _tokens(student),
                teacher_tokens=_tokens(teacher),
            )
        )

    def _tell_if_silent(self, other: Side, count: Count) -> None:
        if count.sampled >= _ENOUGH and count.compared < _FEWEST_DONE * count.sampled and not count.warned:
            count.warned = True
            lost = "the guard sees too little" if other == "teacher" else "rehearsals have too little"
            say(
                f"warning: only {count.compared} of {count.sampled} sampled requests were compared with the {other}, so {lost}; check the {other}'s server"
            )

    async def close(self) -> None:
        """End what still runs."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


def _tokens(completion: Completion) -> int | None:
    tokens = completion.usage.get("completion_tokens")
    return tokens if type(tokens) is int else None
