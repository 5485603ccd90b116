"""The traffic log: sends the requests of the task to the process that writes them (``writer``), and counts what is lost.

No request waits for it: a row is put into a bounded queue, and what does not fit is lost and counted. Rows leave this process through a pipe.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson

from redistill.data.traffic.types import LoggedRequest
from redistill.serving.router.finished import Finished
from redistill.serving.router.plan import in_share
from redistill.serving.router.saying import say
from redistill.serving.router.types import Side
from redistill.serving.traffic.params import TrafficParams
from redistill.serving.traffic.writer import Target

_SALT = "traffic"
_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "OMP_NUM_THREADS",
)
"""What Python needs to start. The writer reads the text of strangers, so it gets no token, key or address with a password, whatever its name is."""
_MOST_ROWS, _MOST_CHARS = 2_000, 16_000_000
"""Rows that wait for the writer, and their text; more are lost, because memory is bounded."""
_MOST_CHARS_OF_ROW = 100_000
_BATCH = 64
_EVERY_S = 0.1
_END_S = 60.0
"""How long the end of the router waits for the writer. It ends by itself in any case."""


class TrafficLog:
    """``written`` counts the rows in files, ``lost`` those that could not be kept, ``waiting`` those that are not with the writer yet."""

    def __init__(self, params: TrafficParams, target: Target) -> None:
        self._params, self._target = params, target
        self._queue: deque[LoggedRequest] = deque()
        self._chars = 0
        self._waits_for_beside: dict[str, LoggedRequest] = {}
        self._sent = self._lost = self._written = 0
        self._report: dict[str, Any] = {}
        self._warned: set[str] = set()

    @property
    def written(self) -> int:
        return self._written + int(self._report.get("written", 0))

    @property
    def lost(self) -> int:
        return self._lost + int(self._report.get("lost", 0))

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self._waits_for_beside)

    def finished(self, finished: Finished, *, asks_beside: bool) -> None:
        """Keep a request, if it is in the share that is kept."""
        if not in_share(finished.decision.id, self._params.share, _SALT):
            return
        row = self._row(finished)
        if asks_beside and len(self._waits_for_beside) < _MOST_ROWS:
            self._waits_for_beside[row.id] = row
        else:
            self._add(row)

    def beside(self, request_id: str, side: Side, completion: str | None) -> None:
        """Add the completion that came after the response."""
        row = self._waits_for_beside.pop(request_id, None)
        if row is None:
            return
        if completion is not None:
            row = replace(row, student=completion) if side == "student" else replace(row, teacher=completion)
        self._add(row)

    def _row(self, finished: Finished) -> LoggedRequest:
        decision, prompt = finished.decision, finished.prompt
        return LoggedRequest(
            id=decision.id,
            at=decision.at,
            prompt_id=prompt.id,
            messages=prompt.messages,
            columns=prompt.columns,
            slice=prompt.slice,
            mode=decision.mode,
            route=decision.route or "",
            reason=decision.reason,
            version=finished.version,
            score=decision.score,
            student=finished.completions.get("student"),
            teacher=finished.completions.get("teacher"),
            replaced=0,
            source="router",
            consent=self._params.consent,
            licence=self._params.licence,
        )

    def _add(self, row: LoggedRequest) -> None:
        chars = _chars_of(row)
        if chars > _MOST_CHARS_OF_ROW:
            self._lose(1, f"a request with its completions is longer than {_MOST_CHARS_OF_ROW} characters")
        elif len(self._queue) >= _MOST_ROWS or self._chars + chars > _MOST_CHARS:
            self._lose(1, "requests come faster than they can be written; lower traffic.share")
        else:
            self._queue.append(row)
            self._chars += chars

    def _lose(self, count: int, reason: str) -> None:
        self._lost += count
        if reason not in self._warned:
            self._warned.add(reason)
            say(
                f"warning: some traffic is not logged ({reason}); requests are answered, and redistill_traffic_lost_rows counts what is lost"
            )

    async def run(self) -> None:
        """Send rows until cancelled; what waits then is sent and written before it ends.

        Raises:
            RuntimeError: the writer ended. What it had not written is lost; the next call starts another one.
        """
        starting = asyncio.ensure_future(self._started())
        try:
            writer = await asyncio.shield(starting)
            while writer.returncode is None:
                await self._send(writer)
                await asyncio.sleep(_EVERY_S)
        finally:
            # Also rows that came while the writer started are written.
            writer = await starting
            await self._ended(writer)
        raise RuntimeError(f"the writer of the traffic log ended with status {writer.returncode}")

    async def _started(self) -> Process:
        command = (sys.executable, "-P", "-m", "redistill.serving.traffic.writer", self._target.as_argument())
        environment = {name: value for name, value in os.environ.items() if name in _VARIABLES or name.startswith("LC_")}
        writer = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment)
        self._reports = asyncio.ensure_future(self._read_reports(writer))
        return writer

    async def _send(self, writer: Process) -> None:
        assert writer.stdin is not None
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            self._chars -= sum(map(_chars_of, batch))
            self._sent += len(batch)
            writer.stdin.write(b"".join(self._line(row) for row in batch))
            # The writer ended: the caller sees it.
            with suppress(ConnectionError):
                await writer.stdin.drain()

    def _line(self, row: LoggedRequest) -> bytes:
        try:
            return orjson.dumps(row) + b"\n"
        except orjson.JSONEncodeError:
            self._sent -= 1
            self._lose(1, "a text is not valid Unicode")
            return b""

    async def _read_reports(self, writer: Process) -> None:
        assert writer.stdout is not None
        async for line in writer.stdout:
            self._report = orjson.loads(line)
            if problem := self._report["problem"]:
                if "problem" not in self._warned:
                    self._warned.add("problem")
                    say(
                        f"warning: traffic is not logged: {problem}; requests are answered, and the rows are kept in memory as far as they fit"
                    )
            else:
                self._warned.discard("problem")

    async def _ended(self, writer: Process) -> None:
        """Give the writer all rows and the end of its input, and wait until it has written them."""
        assert writer.stdin is not None
        try:
            async with asyncio.timeout(_END_S):
                if writer.returncode is None:
                    for row in self._waits_for_beside.values():
                        self._add(row)
                    self._waits_for_beside.clear()
                    await self._send(writer)
                writer.stdin.close()
                await writer.wait()
                await self._reports
        except TimeoutError:
            say(f"warning: the writer of the traffic log still writes after {_END_S:.0f} s; it ends by itself")
            return
        self._written += int(self._report.get("written", 0))
        report, self._report = self._report, {}
        self._lost += int(report.get("lost", 0))
        if missing := self._sent - sum(int(report.get(kind, 0)) for kind in ("written", "lost", "left_out")):
            self._lose(missing, "its writer was killed")
        if report.get("lost"):
            say(f"warning: {report['lost']} requests were not logged{': ' + report['problem'] if report['problem'] else ''}")
        self._sent = 0


def _chars_of(row: LoggedRequest) -> int:
    texts = (*(m.content for m in row.messages), *(c.value for c in row.columns), row.student or "", row.teacher or "")
    return sum(map(len, texts))
