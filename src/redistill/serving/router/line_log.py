"""Logs without text, one line of JSON a request: decisions ("who answered this, and why" long after the response), and comparisons of both models.

Lines are collected and written a few times a second, so that no request waits for the disk. A full disk loses lines and counts them; it never stops an answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

import orjson

from redistill.serving.router.saying import say

_MOST_WAITING = 20_000
"""Lines that wait for the disk; more are lost and counted, because memory is bounded."""
_MOST_BYTES = 64 << 20
_KEPT = 8


class LineLog:
    """``file`` is continued; a full one is renamed to ``.1``, and the oldest of eight is removed."""

    def __init__(self, file: Path, every_s: float = 0.25) -> None:
        self._file, self._every_s = file, every_s
        self._waiting: deque[dict[str, Any]] = deque()
        self.lost = 0
        self._warned = False

    def add(self, line: dict[str, Any]) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self.lost += 1
        else:
            self._waiting.append(line)

    async def run(self) -> None:
        """Write until cancelled; what waits then is written before it ends."""
        writing = None
        try:
            while True:
                await asyncio.sleep(self._every_s)
                writing = asyncio.get_running_loop().run_in_executor(None, self.write)
                await asyncio.shield(writing)
        finally:
            if writing is not None and not writing.done():
                await writing
            self.write()

    def write(self) -> None:
        """Write what waits."""
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not lines:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(self._file, "ab") as handle:
                handle.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
                size = handle.tell()
            if size >= _MOST_BYTES:
                self._rotate()
            self._warned = False
        except OSError as error:
            self.lost += len(lines)
            if not self._warned:
                self._warned = True
                say(f"warning: {self._file} cannot be written ({error.strerror or error}); requests are answered, and not logged")

    def _rotate(self) -> None:
        for number in range(_KEPT - 1, 0, -1):
            older = self._numbered(number)
            if older.is_file():
                older.replace(self._numbered(number + 1))
        self._file.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._file.with_name(f"{self._file.name}.{number}")
