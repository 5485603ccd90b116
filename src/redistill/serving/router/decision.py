"""What was decided about one request, without its text: one line of the log, and the headers of the response."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from redistill.serving.router.types import Side

DRILL_HEADER = "X-Redistill-Drill"
DRILL = "drill"
"""The reason of a response that a drill asked for where the student would have been asked."""


@dataclass(slots=True)
class Decision:
    """One request while it is answered. ``reason`` is one of a few words, ``detail`` the rest; ``failures`` lists (who, kind) of attempts that gave nothing.

    ``drill``: the student is treated as if its server refused. ``student`` is the version that was to be asked first; empty where it was the teacher. ``version`` is the student's version that the flag trusts, or the name of the teacher that answered. ``first_s`` is the time to the first byte that was sent.
    """

    mode: str
    stream: bool
    slice: str = ""
    id: str = field(default_factory=lambda: f"{random.getrandbits(128):032x}")
    at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    route: Side | None = None
    reason: str = ""
    detail: str = ""
    version: str = ""
    student: str = ""
    score: float | None = None
    status: int = 0
    first_s: float | None = None
    tokens: int | None = None
    ended: str = ""
    seconds: float = 0.0
    failures: list[tuple[Side, str]] = field(default_factory=list)
    drill: bool = False

    def answered_by(self, side: Side, version: str, reason: str, detail: str = "") -> None:
        self.route, self.version, self.reason, self.detail = side, version, reason, detail

    def sent(self, status: int) -> None:
        """The first byte of the response goes out."""
        self.status, self.first_s = status, time.perf_counter() - self.started

    def finish(self) -> None:
        self.seconds = time.perf_counter() - self.started

    @property
    def headers(self) -> dict[str, str]:
        sentence = f"{self.reason}: {self.detail}" if self.detail else self.reason
        shown = {
            "X-Request-Id": self.id,
            "X-Redistill-Route": self.route or "none",
            "X-Redistill-Reason": _header(sentence),
            "X-Redistill-Model-Version": _header(self.version),
        }
        return shown | ({"X-Redistill-Failed": ", ".join(f"{side} {kind}" for side, kind in self.failures)} if self.failures else {})

    @property
    def student_failed(self) -> bool:
        """Whether the student's server or its completion was no use, other than by what the request itself causes."""
        kinds = [kind for side, kind in self.failures if side == "student" and kind != "refused"]
        return bool(kinds) or self.reason in ("student-down", "malformed", "cut-off")

    def line(self) -> dict[str, Any]:
        """The decision as a row of the log."""
        return {
            "id": self.id,
            "at": round(self.at, 3),
            "mode": self.mode,
            "route": self.route,
            "reason": self.reason,
            "version": self.version,
            "student": self.student,
            "score": self.score,
            "slice": self.slice,
            "status": self.status,
            "stream": self.stream,
            "first_s": self.first_s and round(self.first_s, 5),
            "seconds": round(self.seconds, 5),
            "tokens": self.tokens,
            "ended": self.ended,
            "failures": [f"{side} {kind}" for side, kind in self.failures],
        }


def _header(text: str) -> str:
    """Text as a header may hold it: printable ASCII, at most 300 characters."""
    start = text[:300]
    return start if start.isascii() and start.isprintable() else "".join(c if " " <= c <= "~" else "?" for c in start)
