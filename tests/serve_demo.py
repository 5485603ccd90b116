"""Both models behind the router, on real servers: ``make serve-demo``, in a project whose last cycle promoted a system.

The monitor rows are asked through OpenAI's client in each mode. Then the student's server is killed, started again, and the flag is flipped. Each step is a
named check; the last line says how many were as expected.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from redistill.data.normal_form import normalised
from redistill.data.types import Prompt
from redistill.evaluation.types import Outcome
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.params import Params, load_params
from redistill.serving.route_flag import read_route
from redistill.statistics.shares import share
from redistill.statistics.types import Score
from tasks.paths import ARTIFACTS
from tasks.registry.transitions import FLAGS
from tests.bench.router.processes import free_port

AT_A_TIME = 8
LIMIT_S = 900.0
_COULD_NOT = {"malformed", "cut-off", "student-timeout"}


@dataclass(frozen=True, slots=True)
class Answered:
    """One response: who answered it and why, how long it took, and whether it is exactly the label."""

    who: str
    reason: str
    seconds: float
    right: bool
    status: int


class Checks:
    """Named checks; each says what was seen."""

    def __init__(self) -> None:
        self.passed, self.failed = 0, 0

    def say(self, name: str, passed: bool, seen: str) -> None:
        self.passed, self.failed = self.passed + passed, self.failed + (not passed)
        print(f"{'ok  ' if passed else 'FAIL'} {name}: {seen}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="ask at most so many monitor rows in each mode")
    options = parser.parse_args()
    params, checks = load_params(), Checks()
    live = read_route(FLAGS)
    if live.model_version is None:
        print(
            "error: no version is live; run `make demo`, or approve a held one: `redistill promote VERSION --reason REASON`",
            file=sys.stderr,
        )
        return 2
    rows = read_records(ARTIFACTS / "prompts" / "monitor.parquet", Prompt)[: options.rows]
    with models(), router() as url:
        client = Client(url, params)
        for mode, pin in (("teacher", "teacher"), (live.mode, "auto"), ("student", "student")):
            flip(pin)
            client.wait_for_mode(mode)
            answers = client.ask_all(rows)
            say_mode(mode, answers)
            agrees(checks, mode, rows, answers)
        flip("auto")
        client.wait_for_mode(live.mode)
        outage(checks, client, rows)
        flag_is_followed(checks, client)
    print(f"serve-demo: {checks.passed} of {checks.passed + checks.failed} as expected")
    return 0 if not checks.failed else 1


class Client:
    def __init__(self, url: str, params: Params) -> None:
        from openai import OpenAI

        self.url, self._params = url, params
        # One try: what a caller sees is what is counted.
        self._client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120.0)

    def ask(self, row: Prompt) -> Answered:
        from openai import APIStatusError

        begin = time.perf_counter()
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self._params.data.name,
                messages=[{"role": m.role, "content": m.content} for m in row.messages],  # type: ignore[misc]
                extra_body={"redistill": {"slice": row.slice, "columns": {c.name: c.value for c in row.columns}}},
            )
        except APIStatusError as error:
            return Answered("none", "", time.perf_counter() - begin, False, error.status_code)
        text = raw.parse().choices[0].message.content or ""
        who, reason = str(raw.headers["X-Redistill-Route"]), str(raw.headers["X-Redistill-Reason"]).partition(":")[0]
        return Answered(who, reason, time.perf_counter() - begin, normalised(text) == normalised(row.label or ""), 200)

    def ask_all(self, rows: Sequence[Prompt]) -> list[Answered]:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            return list(pool.map(self.ask, rows))

    def ready(self) -> dict[str, Any]:
        with suppress(httpx.HTTPError, ValueError):
            return dict(httpx.get(f"{self.url}/readyz", timeout=5.0).json())
        return {}

    def wait_for_mode(self, mode: str) -> None:
        """Until the router has read the flag, and the student is proved where it may answer."""
        until(lambda: (ready := self.ready()).get("answers") == mode and (mode == "teacher" or ready.get("unverified") == ""))


def say_mode(mode: str, answers: Sequence[Answered]) -> None:
    right = share(sum(a.right for a in answers), len(answers))
    by_student = share(sum(a.who == "student" for a in answers), len(answers))
    times = sorted(a.seconds for a in answers)
    print(
        f"{mode:<8} exactly right {_shown(right)}, the student answers {_shown(by_student)}, p50 {statistics.median(times):.2f} s, "
        f"p95 {times[int(0.95 * len(times))]:.2f} s ({AT_A_TIME} requests at a time), {len(answers)} rows",
        flush=True,
    )


def expected(mode: str, rows: Sequence[Prompt]) -> tuple[Score, Score]:
    """What the benchmark measured of the same rows: the share exactly right, and the share that the student answers."""
    arm, cascade = read_json(ARTIFACTS / "report" / "report.json")["candidate"], read_route(FLAGS).cascade
    by_id = {
        name: {o.prompt_id: o for o in read_records(ARTIFACTS / "benchmark" / name / "outcomes.parquet", Outcome)}
        for name in (arm, "teacher")
    }

    def by_student(row: Prompt) -> bool:
        if mode != "cascade":
            return mode == "student"
        assert cascade is not None
        return cascade.choose(by_id[arm][row.id].confidences, by_id[arm][row.id].objection).answers == "student"

    chosen = [by_student(row) for row in rows]
    right = [by_id[arm if student else "teacher"][row.id].exact for row, student in zip(rows, chosen, strict=True)]
    return share(sum(right), len(rows)), share(sum(chosen), len(rows))


def agrees(checks: Checks, mode: str, rows: Sequence[Prompt], answers: Sequence[Answered]) -> None:
    """The quality and the share of a mode are those that the benchmark measured of the same rows, within its interval."""
    quality, answered = expected(mode, rows)
    right, part = (sum(values) / len(answers) for values in ([a.right for a in answers], [a.who == "student" for a in answers]))
    assert quality.interval is not None and answered.interval is not None
    # Alone, the student is measured with its mistakes; the router has the teacher answer what cannot be used, so it can only be better.
    fits = quality.interval.low <= right and (mode == "student" or right <= quality.interval.high)
    checks.say(f"{mode}: quality as measured", fits, f"{right:.1%} exactly right, the benchmark of these rows says {_shown(quality)}")
    if mode == "cascade":
        fits = answered.interval.low <= part <= answered.interval.high
        checks.say("cascade: share of the student as measured", fits, f"{part:.1%}, the benchmark of these rows says {_shown(answered)}")
    count = Counter(f"{a.who}, {a.reason}" for a in answers)
    seen = ", ".join(f"{n} {name}" for name, n in count.most_common())
    if mode == "teacher":
        checks.say("teacher: the student answers nothing", not any(a.who == "student" for a in answers), seen)
    elif mode == "student":
        helped = {a.reason for a in answers if a.who == "teacher"}
        checks.say("student: the teacher answers only what the student could not", helped <= _COULD_NOT, seen)
    else:
        print(f"     {seen}")


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


@contextmanager
def models() -> Iterator[None]:
    """The servers of both models; those that ran before go on afterwards."""
    before = Path(".redistill/serving/models.json").is_file()
    up_models()
    try:
        yield
    finally:
        if not before:
            redistill("down")


@contextmanager
def router() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "redistill", "serve", "--port", str(port)])
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        if process.poll() is not None:
            sys.exit("error: the router ended")
        with suppress(httpx.HTTPError):
            return httpx.get(f"{url}/healthz", timeout=5.0).status_code == 200
        return False

    try:
        until(up)
        yield url
    finally:
        process.terminate()
        process.wait(30.0)


def _shown(score: Score) -> str:
    assert score.interval is not None
    return f"{score.value:.1%} ({score.interval.low:.1%} to {score.interval.high:.1%})"


if __name__ == "__main__":
    sys.exit(main())
