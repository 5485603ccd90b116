"""Back to the version before, and back again, while requests run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from redistill.data.types import Prompt
from redistill.params import Params
from tasks.registry import transitions
from tasks.registry.runs_and_versions import connect
from tests.serve_demo.checks import Checks, redistill, until
from tests.serve_demo.client import Answered, Client

LIMIT_S = 60.0


def rolled_back(checks: Checks, client: Client, rows: Sequence[Prompt], params: Params) -> None:
    """The version before gets a server beside the live one, so that the way back is a matter of the flag."""
    live = transitions.live(connect(params), params)
    if live.previous is None:
        print(
            "     no version was live before this one, so there is nothing to roll back to: run a second cycle that is promoted to see it"
        )
        return
    redistill("rollback", "--reason", "serve-demo")
    redistill("up-models", "--next")
    until(lambda: client.ready().get("version") == live.previous and client.ready().get("unverified") == "")
    over = Event()
    with ThreadPoolExecutor(1) as pool:
        traffic = pool.submit(_until, over, client, rows)
        begin = time.monotonic()
        redistill("rollback", "--reason", "serve-demo: back again")
        until(lambda: client.ready().get("version") == live.champion and client.ready().get("unverified") == "")
        seconds = time.monotonic() - begin
        over.set()
        answers = traffic.result()
    lost = [a.status for a in answers if a.status != 200]
    checks.say(
        f"rollback from version {live.previous} to {live.champion}, both served: within {LIMIT_S:.0f} s, and no request is lost",
        seconds <= LIMIT_S and not lost,
        f"{seconds:.1f} s from the command to the proved version; {len(answers) - len(lost)} of {len(answers)} answered meanwhile: {dict(Counter(a.who for a in answers))}",
    )


def _until(over: Event, client: Client, rows: Sequence[Prompt]) -> list[Answered]:
    answers: list[Answered] = []
    while not over.is_set():
        answers.append(client.ask(rows[len(answers) % len(rows)]))
    return answers
