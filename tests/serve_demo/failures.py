"""What goes wrong: the student's server is killed, and the flag is flipped. And the drill, which tries it every night."""

from __future__ import annotations

import json
import os
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from redistill.data.types import Prompt
from redistill.params import Params
from tasks.serving.router_drill import drill_router
from tests.serve_demo.checks import Checks, flip, until, up_models
from tests.serve_demo.client import Client


def outage(checks: Checks, client: Client, rows: Sequence[Prompt]) -> None:
    """The student's server is killed while requests run: all of them are answered, from then on by the teacher."""
    [pid] = [json.loads(Path(".redistill/serving/student.json").read_text(encoding="utf-8"))["pid"]]
    asked = list(rows[:60])
    killer = threading.Timer(2.0, lambda: os.killpg(pid, signal.SIGKILL))
    killer.start()
    answers = client.ask_all(asked)
    killer.join()
    lost = [a.status for a in answers if a.status != 200]
    checks.say(
        "the student's server is killed in mid-traffic: no request is lost",
        not lost,
        f"{len(answers) - len(lost)} of {len(answers)} answered",
    )
    after = client.ask_all(asked[:16])
    who = Counter(a.who for a in after)
    checks.say(
        "after it the teacher answers",
        who == {"teacher": len(after)},
        f"{dict(who)}, p50 {statistics.median(a.seconds for a in after):.2f} s",
    )
    up_models()
    seconds = until(lambda: any(client.ask(row).who == "student" for row in asked[:8]))
    checks.say("its server is back: it answers again by itself", True, f"{seconds:.1f} s after the server was ready")


def flag_is_followed(checks: Checks, client: Client) -> None:
    begin = time.monotonic()
    flip("teacher")
    written = time.monotonic()
    until(lambda: client.ready().get("answers") == "teacher")
    seconds = time.monotonic() - written
    checks.say(
        "the flag is flipped to the teacher",
        seconds < 1.0,
        f"followed {seconds:.2f} s after the command ended, {time.monotonic() - begin:.1f} s after it began",
    )
    flip("auto")


def drilled(checks: Checks, params: Params) -> None:
    """The nightly drill, without waiting for the night."""
    seen = drill_router(params)
    checks.say(
        "the drill: with the student off, the teacher's completions are usable",
        bool(seen) and all(check.passed for check in seen),
        ", ".join(check.got for check in seen) or "no router is recorded here",
    )
