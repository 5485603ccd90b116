"""Runs the router of this project: ``redistill serve``."""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from redistill.errors import ConfigError
from redistill.params import Params
from redistill.promotion.thresholds.params import limits_of
from redistill.serving.router.answering import Answering, Models
from redistill.serving.router.app import Background, Parts, run
from redistill.serving.router.guard import Guard
from redistill.serving.router.line_log import LineLog
from redistill.serving.router.live import Watch
from redistill.serving.router.metrics import Metrics
from redistill.serving.router.proof import Proof, listed, proved
from redistill.serving.router.trace_settings import traces_of
from redistill.serving.router.types import Side
from redistill.serving.router.upstream import Upstream
from redistill.serving.traffic.log import TrafficLog
from redistill.serving.traffic.retention import expire
from redistill.serving.traffic.writer import Target
from redistill.serving.types import Route, ServedVersion
from redistill.teacher.openai import KEY_VARIABLE as TEACHER_KEY
from redistill.teacher.openai import URL_VARIABLE as TEACHER_URL
from tasks.paths import DECISIONS, FORGOTTEN, STATE, TRAFFIC
from tasks.registry.transitions import FLAGS
from tasks.serving.fall_back import fall_back
from tasks.serving.models import Students, shown_teacher, trained_on
from tasks.serving.up_models import recorded_urls, resolved_dtype

STUDENT_URL, STUDENT_KEY, CALLERS_KEY = "REDISTILL_STUDENT_URL", "REDISTILL_STUDENT_API_KEY", "REDISTILL_SERVE_API_KEY"
GUARD = STATE / "serving" / "guard.json"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


def serve(params: Params, address: Address, say: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Raises:
        ConfigError: no address of a model's server, a key that is no header, or an open address without a key.
        DataError: no teacher is locked.
    """
    parts = make_parts(params)
    if address.host not in LOOPBACK and not parts.key:
        raise ConfigError(
            f"--host {address.host} is open to other machines, so callers need a key; set {CALLERS_KEY}, or listen at 127.0.0.1"
        )
    say(f"router     http://{address.host}:{address.port}/v1 (decisions in {DECISIONS})")
    for side, upstream in parts.models.upstreams.items():
        say(f"{side:<10} {upstream.url}")
    run(parts, address.host, address.port)


def make_parts(params: Params) -> Parts:
    """The router of this project; the addresses of both servers are in the environment, or recorded by ``redistill up-models``."""
    students, data = Students(params), params.data
    dtype: Any = resolved_dtype(params)
    limits = replace(params.serve, student_dtype=dtype)
    upstreams: dict[Side, Upstream] = {
        "student": Upstream("student", _url("student", STUDENT_URL), _key(STUDENT_KEY), limits),
        "teacher": Upstream("teacher", _url("teacher", TEACHER_URL), _key(TEACHER_KEY), limits),
    }

    server, lost_at_proof = upstreams["student"], [0]

    async def prove(version: ServedVersion, route: Route) -> Proof:
        lost_at_proof[0] = server.lost
        return await proved(server, students.shown(version.version), version, route.cascade, data)

    async def look(version: ServedVersion, route: Route) -> Proof:
        # After a lost connection it may be another server under the same name.
        return await (prove(version, route) if server.lost != lost_at_proof[0] else listed(server, version))

    watch = Watch(FLAGS, students.verified, prove, look)
    models = Models(upstreams, shown_teacher(params), students.shown)
    guard = Guard(
        GUARD,
        limits_of(params.route, params.promote).max_disagreement,
        lambda: watch.live.route,
        lambda reason, route: threading.Thread(target=fall_back, args=(params, reason, route)).start(),
    )
    traffic = _traffic(params)
    answering = Answering(
        models,
        data,
        limits,
        lambda: watch.live,
        salt=data.name,
        help_when_down=params.route.on_teacher_down == "student",
        observe=guard.observe,
        traffic=traffic,
    )
    log = LineLog(DECISIONS)
    trained, key, traces = trained_on(params), _key(CALLERS_KEY), traces_of(os.environ)
    expiring: Background = functools.partial(expire, TRAFFIC, params.traffic.keep_days)
    background: tuple[Background, ...] = (watch.run, expiring, *([] if traffic is None else [traffic.run]))
    return Parts(models, trained, limits, lambda: watch.live, log, Metrics(), answering, background, key, traces)


def _traffic(params: Params) -> TrafficLog | None:
    """The log of the traffic, if the project keeps any."""
    rules = params.traffic
    target = Target(str(TRAFFIC.absolute()), str(FORGOTTEN.absolute()), rules.shard_rows, rules.shard_s)
    return TrafficLog(rules, target) if rules.log else None


@functools.cache
def _recorded() -> dict[str, str]:
    return recorded_urls()


def _url(side: str, variable: str) -> str:
    url = os.environ.get(variable, "").strip() or _recorded().get(side, "")
    if not re.fullmatch(r"https?://[^\s@?#]+", url):
        raise ConfigError(
            f"the address of the {side}'s server is not known; run `redistill up-models`, or set {variable} to an http(s) address without password or query, such as http://127.0.0.1:8000/v1"
        )
    return url


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise ConfigError(f"{variable} contains a space, control or non-ASCII character, which an HTTP header cannot contain; set it again")
    return key
