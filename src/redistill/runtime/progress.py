"""What a stage says about itself, readable by a person and by the flow that streams it: progress, and whether it continues an earlier run.

A stage runs in a subprocess of a subprocess, so its progress is a line on stderr: ``[finetune@kd] 128/630 steps · 20 % ·
ETA 41 s · loss 0.312``. On a terminal the line is redrawn every few seconds; elsewhere lines come less often as the stage goes on, since they stay in logs.
"""

from __future__ import annotations

import re
import sys
import time

LINE = re.compile(r"\[(?P<stage>[^\]]+)\] (?P<done>\d+)/(?P<total>\d+) (?P<rest>.*)")
CONTINUES = re.compile(r"\[[^\]]+\] continues: ")


def continues(stage: str, what: str) -> None:
    """Report that this run uses results of an earlier run, so that the flow does not take its seconds for those of the whole stage."""
    print(f"[{stage}] continues: {what}", flush=True)


_LINES, _LONGEST_S = 20.0, 60.0
"""Outside of a terminal, the next line comes after this part of the time that has passed, and at the latest after so many seconds. Ten minutes are about 70 lines."""


class Progress:
    """Counts towards a known total; call it with the new count, and a note such as the loss."""

    def __init__(self, stage: str, total: int, unit: str, every_s: float = 3.0) -> None:
        self._stage = stage
        self._total = max(1, total)
        self._unit = unit
        self._every_s = every_s
        self._start = time.monotonic()
        self._first: int | None = None
        self._printed = 0.0
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        if total is not None:
            self._total = max(1, total)
        now = time.monotonic()
        if self._first is None:
            self._first, self._start = max(0, done - 1), now
        finished = done >= self._total
        if not finished and now - self._printed < self.pause_s(now - self._start):
            return
        self._printed = now
        line = self.render(done, now - self._start) + (f" · {note}" if note else "")
        if self._terminal:
            print(f"\r{line}\x1b[K", end="\n" if finished else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def pause_s(self, seconds: float) -> float:
        """How long no line is printed, ``seconds`` after the start."""
        return self._every_s if self._terminal else max(self._every_s, min(seconds / _LINES, _LONGEST_S))

    def render(self, done: int, seconds: float) -> str:
        here = done - (self._first or 0)
        left = seconds / here * (self._total - done) if here > 0 else float("nan")
        eta = f"ETA {left:.0f} s" if done < self._total and left >= 1 else f"{seconds:.0f} s"
        return f"[{self._stage}] {done}/{self._total} {self._unit} · {100 * done / self._total:.0f} % · {eta}"
