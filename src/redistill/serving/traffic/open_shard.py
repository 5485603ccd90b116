"""The rows that are collected in memory until there are enough for a file, and the file."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from redistill.data.forgotten import forgotten_digests, tombstone_digest
from redistill.data.traffic.types import LoggedRequest
from redistill.errors import DataError
from redistill.io.parquet import write_records
from redistill.serving.traffic.lock import traffic_lock

_RETRY_S = 5.0
_MOST_CHARS = 32_000_000
"""Text in memory; a shard is written earlier where rows are long."""


class OpenShard:
    """``written`` and ``lost`` count rows, ``left_out`` those that were removed with ``redistill forget``; ``problem`` says why the last file could not be written, empty if it could.

    A file that a full disk refuses is tried again; until then its rows stay in memory, and what comes when memory is full is lost.
    """

    def __init__(self, folder: Path, forgotten: Path, rows: int, seconds: float) -> None:
        self._folder, self._forgotten, self._most, self._seconds = folder, forgotten, rows, seconds
        self._rows: list[LoggedRequest] = []
        self._chars, self._due_s = 0, 0.0
        self.written = self.lost = self.left_out = 0
        self.problem = ""
        self._reported: dict[str, Any] = {}

    def add(self, row: LoggedRequest) -> None:
        if self._full and self.problem:
            self.lost += 1
            return
        if not self._rows:
            self._due_s = time.monotonic() + self._seconds
        self._rows.append(row)
        self._chars += sum(len(m.content) for m in row.messages) + len(row.student or "") + len(row.teacher or "")
        if self._full:
            self.write()

    @property
    def _full(self) -> bool:
        return len(self._rows) >= self._most or self._chars >= _MOST_CHARS

    def due_in_s(self) -> float | None:
        """Seconds until the rows must be written; None while there are none."""
        return max(0.0, self._due_s - time.monotonic()) if self._rows else None

    def write(self) -> None:
        """Write the rows that nobody had removed meanwhile, as one file, whole or not at all."""
        if not self._rows:
            return
        first = min(self._rows, key=lambda row: row.at)
        file = self._folder / f"{int(first.at * 1000):013d}-{uuid.uuid4().hex[:8]}.parquet"
        try:
            # Under the lock: what `redistill forget` removes now must not be written a moment later.
            with traffic_lock(self._folder):
                forgotten = forgotten_digests(self._forgotten)
                kept = [row for row in self._rows if tombstone_digest(row.prompt_id) not in forgotten]
                if kept:
                    write_records(file, LoggedRequest, kept)
        except (DataError, OSError) as error:
            self.problem, self._due_s = str(error), time.monotonic() + _RETRY_S
            return
        self.written += len(kept)
        self.left_out += len(self._rows) - len(kept)
        self._rows, self._chars, self.problem = [], 0, ""

    def give_up(self) -> None:
        """Count what could not be written until the end as lost."""
        self.lost += len(self._rows)
        self._rows = []

    def changed_report(self) -> dict[str, Any] | None:
        """What became of the rows so far; None if that was reported before."""
        report = {"written": self.written, "lost": self.lost, "left_out": self.left_out, "problem": self.problem}
        if report == self._reported:
            return None
        self._reported = report
        return report
