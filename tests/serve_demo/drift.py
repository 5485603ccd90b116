"""Prompts of another business drift in: the monitor warns, then acts."""

from __future__ import annotations

import json
import time
from itertools import product

from redistill.data.types import Message, Prompt
from redistill.params import Params
from redistill.serving.route_flag import read_route
from tasks.orchestration.pending import PENDING
from tasks.registry.transitions import FLAGS
from tasks.serving.monitor import Seen, lag_s, monitor_traffic
from tests.serve_demo.checks import Checks, redistill, until
from tests.serve_demo.client import Client

_MOST_WINDOWS = 8
_THINGS = ("parcel", "letter", "crate", "pallet", "suitcase", "bicycle", "sofa", "piano", "mattress", "tyre")
_PLACES = ("the depot in Leeds", "a locker at the station", "my neighbour's porch", "the harbour", "customs in Calais", "the sorting hall")
_WISHES = (
    "should be picked up again from",
    "was left in the rain outside",
    "has been waiting for three days at",
    "must be forwarded at once from",
    "was weighed wrongly at",
)


def drifted(checks: Checks, client: Client, params: Params) -> None:
    """Windows of requests of a forwarder, each judged as soon as it is there, and not a minute later as on the schedule."""
    _judged(params)
    pool = [f"the {thing} {wish} {place}" for thing, wish, place in product(_THINGS, _WISHES, _PLACES)]
    prompts = [Prompt.of((Message("user", text),), str(i), "forwarding", None, "serve-demo") for i, text in enumerate(pool)]
    size, verdicts = max(60, params.drift.min_rows), []
    for number in range(_MOST_WINDOWS):
        batch = [prompts[(number * size + i) % len(prompts)] for i in range(size)]
        client.ask_all(batch)
        seen = _judged(params)
        verdicts.append(seen.state.verdict)
        print(f"     {seen.sentence}", flush=True)
        if verdicts[-1] == "act" or read_route(FLAGS).mode == "teacher":
            break
    checks.say(
        "drifted prompts: the monitor warns first, and acts later", verdicts[-1:] == ["act"] and "warn" in verdicts, ", ".join(verdicts)
    )
    redistill("drift")
    until(lambda: client.ready().get("answers") in ("teacher", None) or read_route(FLAGS).mode != "teacher")
    asked = json.loads(PENDING.read_text(encoding="utf-8")) if PENDING.is_file() else []
    route = read_route(FLAGS)
    checks.say(
        "the route falls to the teacher, and a cycle is asked for",
        route.mode == "teacher" and bool(asked),
        f"{route.reason[:160]}; {asked[-1:]}",
    )


def _judged(params: Params) -> Seen:
    """Judge now what is in the logs by now. On its schedule the monitor leaves the newest traffic to the next window."""
    time.sleep(1.0 + (params.traffic.shard_s if params.traffic.log else 0.0))
    return monitor_traffic(params, time.time() + lag_s(params))


def given_back(client: Client, version: str) -> None:
    """A person looks at it, and gives the version its traffic back, on the evidence of its promotion: a later look may have held it."""
    redistill("rollback", "--to", version, "--reason", "serve-demo is over")
    until(lambda: client.ready().get("version") == version)
