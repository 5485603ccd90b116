"""Asks the teacher again, beside the traffic: a share of the requests that the student answered is also completed by the teacher, after the caller has its answer.

What is counted is the disagreement of the system with its teacher over all sampled requests: 0 where the teacher answered. That is what the threshold promised.
Requests are sampled by a hash, so who answers them plays no part. Never more than a few run at once; what does not run is counted, because a guard that sees
nothing would look like one that has nothing to report.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from redistill.serving.router.plan import in_share
from redistill.serving.router.saying import say
from redistill.serving.router.types import Asked, Completion, Side, UpstreamError

_SALT = "shadow"
_MOST_OPEN = 8
_ENOUGH, _FEWEST_DONE = 100, 0.5
"""After so many sampled requests, less than this share of them compared is told."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One sampled request: how far the system's completion is from the teacher's, in [0, 1]."""

    id: str
    version: str
    disagreement: float
    by_student: bool


class Shadow:
    """``ask`` completes a request with the teacher. ``differs`` measures the disagreement of two completions. ``observe`` gets each comparison, ``completed`` the text of each completion beside an answer."""

    def __init__(
        self,
        share: float,
        ask: Callable[[Asked], Awaitable[Completion]],
        differs: Callable[[str, str], float],
        observe: Callable[[Compared], None],
        completed: Callable[[str, Side, str | None], None] | None = None,
    ) -> None:
        self._share, self._ask, self._differs, self._observe = share, ask, differs, observe
        self._completed = completed or (lambda request_id, side, text: None)
        self._running: set[asyncio.Task[None]] = set()
        self.sampled = self.compared = 0
        self._warned = False

    def consider(self, asked: Asked, request_id: str, version: str, student: Completion | None) -> bool:
        """Sample a request that was answered by the live system; ``student`` is its completion if the student answered, None if the teacher did.

        Returns:
            Whether the teacher is asked beside it; ``completed`` is called then, once.
        """
        if self._share <= 0.0 or asked.prompt is None or not in_share(request_id, self._share, _SALT):
            return False
        self.sampled += 1
        asks = False
        if student is None:
            self._compared(Compared(request_id, version, 0.0, by_student=False))
        elif len(self._running) < _MOST_OPEN:
            task = asyncio.ensure_future(self._compare(asked, request_id, version, student.text))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            asks = True
        self._tell_if_silent()
        return asks

    async def _compare(self, asked: Asked, request_id: str, version: str, text: str) -> None:
        completion = None
        try:
            teacher = await self._ask(asked)
            completion = teacher.text
        except UpstreamError:
            return  # counted as sampled and not compared
        finally:
            self._completed(request_id, "teacher", completion)
        value = self._differs(text, teacher.text)
        if math.isfinite(value):
            self._compared(Compared(request_id, version, min(1.0, max(0.0, value)), by_student=True))

    def _compared(self, compared: Compared) -> None:
        self.compared += 1
        self._observe(compared)

    def _tell_if_silent(self) -> None:
        if self.sampled >= _ENOUGH and self.compared < _FEWEST_DONE * self.sampled and not self._warned:
            self._warned = True
            say(
                f"warning: only {self.compared} of {self.sampled} sampled requests were compared with the teacher, so the guard sees too little; check the teacher's server"
            )

    async def close(self) -> None:
        """End what still runs."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
