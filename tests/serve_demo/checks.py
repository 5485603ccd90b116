"""What every step of the demo uses: named checks, waiting, and this project's commands."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from redistill.statistics.types import Score

LIMIT_S = 900.0


class Checks:
    """Named checks; each says what was seen."""

    def __init__(self) -> None:
        self.passed, self.failed = 0, 0

    def say(self, name: str, passed: bool, seen: str) -> None:
        self.passed, self.failed = self.passed + passed, self.failed + (not passed)
        print(f"{'ok  ' if passed else 'FAIL'} {name}: {seen}", flush=True)


def until(condition: Callable[[], Any]) -> float:
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > LIMIT_S:
            sys.exit(f"error: still waiting after {LIMIT_S:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - begin


def redistill(*arguments: str) -> None:
    if subprocess.run([sys.executable, "-m", "redistill", *arguments], stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"error: redistill {' '.join(arguments)} failed")


def flip(to: str) -> None:
    redistill("route", "set", to, "--reason", "serve-demo")


def up_models() -> None:
    redistill("up-models")


def shown(score: Score) -> str:
    assert score.interval is not None
    return f"{score.value:.1%} ({score.interval.low:.1%} to {score.interval.high:.1%})"
