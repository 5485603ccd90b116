"""Runs the router of this project: ``redistill serve``."""

from __future__ import annotations

import functools
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from redistill.errors import ConfigError
from redistill.io.shared_store import ADDRESS, named_address
from redistill.params import Params
from redistill.promotion.thresholds.params import limits_of
from redistill.serving.params import ServeParams
from redistill.serving.router.answering import Answering, Models
from redistill.serving.router.app import Background, Parts, run
from redistill.serving.router.flag_over_http import FlagOverHttp
from redistill.serving.router.guard import Guard
from redistill.serving.router.line_log import LineLog
from redistill.serving.router.live import Watch
from redistill.serving.router.metrics import Metrics
from redistill.serving.router.proof import Proof, proved_somewhere, still_listed
from redistill.serving.router.rollouts import Rollouts
from redistill.serving.router.shadow import Compared
from redistill.serving.router.trace_settings import traces_of
from redistill.serving.router.upstream import Upstream
from redistill.serving.traffic.log import TrafficLog
from redistill.serving.traffic.retention import expire
from redistill.serving.traffic.writer import Target
from redistill.serving.types import Route, ServedVersion
from redistill.teacher.openai import KEY_VARIABLE as TEACHER_KEY
from redistill.teacher.openai import URL_VARIABLE as TEACHER_URL
from tasks.paths import COMPARISONS, DECISIONS, FORGOTTEN, STATE, TRAFFIC
from tasks.registry.transitions import FLAGS
from tasks.serving import rollout
from tasks.serving.fall_back import fall_back
from tasks.serving.models import Students, follow_lock, shown_teacher, trained_on
from tasks.serving.recorded_router import forget_router, record_router
from tasks.serving.up_models import NEXT_PORT, recorded_urls, resolved_dtype

FLAG_URL, STUDENT_URL, NEXT_URL, STUDENT_KEY, CALLERS_KEY = (
    "REDISTILL_FLAG_URL",
    "REDISTILL_STUDENT_URL",
    "REDISTILL_NEXT_URL",
    "REDISTILL_STUDENT_API_KEY",
    "REDISTILL_SERVE_API_KEY",
)
FLAG_COPY = STATE / "serving" / "flags.json"
"""The flag as its address has it."""
GUARD = STATE / "serving" / "guard.json"
ROLLOUT = STATE / "serving" / "rollout.json"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


def serve(params: Params, address: Address, say: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Raises:
        ConfigError: no address of a model's server, a key that is no header, an open address without a key, or a port that is taken.
        DataError: no teacher is locked.
    """
    parts = make_parts(params)
    if address.host not in LOOPBACK and not parts.key:
        raise ConfigError(
            f"--host {address.host} is open to other machines, so callers need a key; set {CALLERS_KEY}, or listen at 127.0.0.1"
        )
    _require_free(address)
    say(f"router     http://{address.host}:{address.port}/v1 (decisions in {DECISIONS})")
    for side, upstream in parts.models.upstreams.items():
        say(f"{side:<10} {upstream.url}")
    try:
        record_router(address.host, address.port, parts.drill_token)
        run(parts, address.host, address.port)
    finally:
        forget_router()


def _require_free(address: Address) -> None:
    """Before anything is recorded, so that the record of a router that runs there stays."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server((address.host, address.port), family=family).close()
    except OSError as error:
        raise ConfigError(
            f"the router cannot listen at {address.host}:{address.port} ({error.strerror or error}); choose another --port, or end what listens there"
        ) from None


def make_parts(params: Params) -> Parts:
    """The router of this project; the addresses of the servers are in the environment, or recorded by ``redistill up-models``."""
    students, data = Students(params), params.data
    dtype: Any = resolved_dtype(params)
    limits = replace(params.serve, student_dtype=dtype)
    servers = student_servers(limits)
    upstreams = {**servers, "teacher": Upstream("teacher", _url("teacher", TEACHER_URL), _key(TEACHER_KEY), limits)}

    async def prove(version: ServedVersion, route: Route, before: Proof) -> Proof:
        return await proved_somewhere(servers, students.shown(version.version), version, route.cascade, data)

    async def look(version: ServedVersion, route: Route, before: Proof) -> Proof:
        server = servers[before.place]
        # After a lost connection it may be another server under the same name.
        return await (prove(version, route, before) if server.lost != before.lost else still_listed(server, version, before))

    flag = _flag_over_http(limits)
    watch = Watch(FLAGS if flag is None else FLAG_COPY, students.verified, prove, look)
    models = Models(upstreams, shown_teacher(params), students.shown)
    rollouts = Rollouts(
        ROLLOUT, limits, lambda: watch.live.route, rollout.advance, lambda reason, route: rollout.stop(params, reason, route)
    )
    guard = Guard(
        GUARD,
        limits_of(params.route, params.promote).max_disagreement,
        lambda: watch.live.route,
        lambda reason, route: threading.Thread(target=fall_back, args=(params, reason, route)).start(),
    )

    def observe(compared: Compared) -> None:
        rollouts.observe(compared)
        guard.observe(compared)

    comparisons, traffic = LineLog(COMPARISONS), _traffic(params)
    answering = Answering(
        models,
        data,
        limits,
        lambda: watch.live,
        salt=data.name,
        help_when_down=params.route.on_teacher_down == "student",
        observe=observe,
        record=lambda comparison: comparisons.add(asdict(comparison)),
        traffic=traffic,
    )
    expiring: Background = functools.partial(expire, TRAFFIC, params.traffic.keep_days)
    background: list[Background] = [watch.run, comparisons.run, rollouts.run, lambda: follow_lock(params, models), expiring]
    return Parts(
        models,
        trained_on(params),
        limits,
        lambda: watch.live,
        LineLog(DECISIONS),
        Metrics(),
        answering,
        (*background, *([] if traffic is None else [traffic.run]), *([] if flag is None else [flag.run])),
        _key(CALLERS_KEY),
        traces_of(os.environ),
        rollouts.count,
        secrets.token_hex(32),
    )


def _traffic(params: Params) -> TrafficLog | None:
    """The log of the traffic, if the project keeps any."""
    rules = params.traffic
    target = Target(str(TRAFFIC.absolute()), str(FORGOTTEN.absolute()), rules.shard_rows, rules.shard_s)
    return TrafficLog(rules, target) if rules.log else None


def _flag_over_http(limits: ServeParams) -> FlagOverHttp | None:
    """Where the environment names an address, the flag comes from there.

    Raises:
        ConfigError: the address is none, or this router could read the flag and not change it.
    """
    url = os.environ.get(FLAG_URL, "").strip()
    if not url:
        return None
    if not re.fullmatch(r"https?://[^\s@?#]+", url):
        raise ConfigError(
            f"{FLAG_URL} must be an http(s) address without password or query, such as https://flags.example.com/triage/route/flags.json"
        )
    if not named_address():
        raise ConfigError(
            f"{FLAG_URL} is set, but {ADDRESS} is not: the guard of this router could take no version back, because it writes the flag to the shared store; set both"
        )
    return FlagOverHttp(url, FLAG_COPY, limits.flag_max_age_s)


def student_servers(limits: ServeParams) -> dict[str, Upstream]:
    """The students' servers: one, or two where the next version has a server beside the present one's."""
    urls = {"student": _url("student", STUDENT_URL)}
    if os.environ.get(NEXT_URL, "").strip() or "next" in _recorded():
        urls["next"] = _url("next", NEXT_URL)
    elif limits.rollout_steps or "student" in _recorded():
        # Where `redistill up-models --next` will start it, for a rollout or for the way back, so that the router need not be restarted.
        urls["next"] = f"http://127.0.0.1:{NEXT_PORT}/v1"
    return {place: Upstream("student", url, _key(STUDENT_KEY), limits) for place, url in urls.items()}


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
