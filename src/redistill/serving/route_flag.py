"""The route: one OpenFeature flag in a flagd file. If the file cannot be read, the route is the teacher.

The file is both record and flag: its metadata keeps the operator's pin, the system's mode, who changed it and why; its
one flag is what routers evaluate, from this file or through a flagd daemon that watches it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from redistill.errors import ConfigError, DataError
from redistill.io.atomic import replacing
from redistill.io.json import write_json
from redistill.promotion.cascade import Cascade, cascade_from_json
from redistill.serving.shared_flag import SharedFlag
from redistill.serving.types import Mode, Route, rollout_from_json

FLAG = "redistill-route"
Pin = Literal["none", "teacher", "student"]
SAFE = Route("none", "teacher", None, "no readable route", "")
_MOST_BYTES = 1 << 20
_PARTS = 10_000
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def read_route(path: str | os.PathLike[str]) -> Route:
    """The route in the file; the teacher if the file cannot be read, or if its flag and its metadata do not agree."""
    return trusted_route(path) or _safe(path)


def trusted_route(path: str | os.PathLike[str]) -> Route | None:
    """The route in the file; None if the file cannot be read, or contradicts itself."""
    try:
        flag = _flag(path)
        route = _recorded(flag["metadata"])
        agree = (
            flag["state"] == "ENABLED"
            # Another rule for some users would go around the metadata.
            and flag.get("targeting", {}) == _targeting(route)
            and all(name == value for name, value in flag["variants"].items())
            and flag["variants"][flag["defaultVariant"]] == route.answers
        )
        return route if agree else None
    except _UNREADABLE:
        return None


def _safe(path: str | os.PathLike[str]) -> Route:
    """The teacher. What an operator decided stays, as far as it can be read, also where the rest of the file contradicts itself."""
    try:
        meta = _flag(path)["metadata"]
        route = replace(SAFE, pin="teacher" if meta["pin"] == "teacher" else "none")
    except _UNREADABLE:
        return SAFE
    try:
        share, slices = _operators_part(meta)
    except _UNREADABLE:
        return route
    return replace(route, share=share, teacher_slices=slices)


def _flag(path: str | os.PathLike[str]) -> dict[str, Any]:
    flag = json.loads(_bounded(path).decode())["flags"][FLAG]
    if not isinstance(flag, dict):
        raise TypeError("the flag is no object")
    return flag


def _bounded(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file of at most ``_MOST_BYTES``: a pipe or a device would never end, and readers must not wait."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise ValueError("not a regular file of the size of a flag")
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError("the file has grown beyond the size of a flag")
    return content


def _recorded(meta: dict[str, Any]) -> Route:
    version, pin, mode = meta["model_version"] or None, meta["pin"], meta["mode"]
    cascade = cascade_from_json(json.loads(meta["cascade"])) if meta.get("cascade") else None
    known = pin in get_args(Pin) and mode in get_args(Mode) and isinstance(version, str | None)
    # A cascade without a threshold would be a student that answers everything.
    if not known or (mode == "cascade" and not (cascade and math.isfinite(cascade.limit))):
        raise ValueError("unknown pin, mode, version or threshold")
    share, slices = _operators_part(meta)
    rollout = rollout_from_json(json.loads(meta["rollout"])) if meta.get("rollout") else None
    if rollout is not None and (mode == "teacher" or version in (None, rollout.version)):
        raise ValueError("a rollout without two versions")
    reason, changed_at, teacher = str(meta["reason"]), str(meta["changed_at"]), str(meta.get("teacher", ""))
    return Route(pin, mode, version, reason, changed_at, teacher, cascade, share, slices, rollout)


def _operators_part(meta: dict[str, Any]) -> tuple[float, tuple[str, ...]]:
    """The share and the slices in the metadata; files of earlier versions have none."""
    share, slices = float(meta.get("share", 1.0)), json.loads(meta.get("teacher_slices", "[]"))
    if not 0.0 <= share <= 1.0 or not all(isinstance(name, str) for name in slices):
        raise ValueError("a share outside 0 to 1, or slices that are no names")
    return share, tuple(slices)


def to_teacher(route: Route, reason: str, teacher: str = "") -> Route:
    """The route with the teacher as the system's mode; an operator's pin is kept, and the teacher unless another one is named."""
    return replace(
        route,
        mode="teacher",
        model_version=None,
        reason=reason,
        changed_at=_now(),
        teacher=teacher or route.teacher,
        cascade=None,
        rollout=None,
    )


def to_version(route: Route, version: str, cascade: Cascade | None, reason: str, teacher: str = "") -> Route:
    """The route with a version as the system's mode: alone, or as a cascade; pin, share, slices and teacher as with ``to_teacher``."""
    return replace(
        route,
        mode="student" if cascade is None else "cascade",
        model_version=version,
        reason=reason,
        changed_at=_now(),
        teacher=teacher or route.teacher,
        cascade=cascade,
        # Another system has no part of what was under way; the same one keeps it.
        rollout=route.rollout if (route.model_version, route.cascade) == (version, cascade) else None,
    )


def keeping_operators_part(route: Route, now: Route) -> Route:
    """The route with what an operator decided in the route that holds now, even if it was planned with something else: pin, slices and share."""
    return replace(route, pin=now.pin, share=now.share, teacher_slices=now.teacher_slices)


def with_pin(route: Route, wanted: str, reason: str) -> Route:
    """The route with the operator's pin: ``teacher``, ``student``, or ``auto`` to remove the pin.

    Raises:
        ConfigError: an unknown word, an empty reason, or ``student`` where no version has been promoted.
    """
    if wanted not in ("teacher", "student", "auto"):
        raise ConfigError(f"route {wanted!r} is unknown; set teacher, student or auto")
    _check_reason(reason)
    if wanted == "student" and route.model_version is None:
        raise ConfigError("no student has been promoted yet, so the student cannot be pinned; run a cycle first, or pin the teacher")
    pin: Any = "none" if wanted == "auto" else wanted
    return replace(route, pin=pin, reason=reason, changed_at=_now())


def with_share(route: Route, percent: float, reason: str) -> Route:
    """The route with the share of the traffic that its mode is for, in percent; the teacher answers the rest.

    Raises:
        ConfigError: not between 0 and 100, or an empty reason.
    """
    _check_reason(reason)
    if not 0.0 <= percent <= 100.0:
        raise ConfigError(f"a share of {percent:g} % is impossible; give a number between 0 and 100")
    return replace(route, share=percent / 100, reason=reason, changed_at=_now())


def with_teacher_slices(route: Route, slices: Sequence[str], reason: str) -> Route:
    """The route with the slices that the teacher always answers.

    Raises:
        ConfigError: an empty reason.
    """
    _check_reason(reason)
    return replace(route, teacher_slices=tuple(sorted(set(slices))), reason=reason, changed_at=_now())


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise ConfigError("give a reason with --reason; it is recorded in the flag")


def write_route(path: str | os.PathLike[str], route: Route) -> None:
    """Write the flag file whole or not at all; flagd keeps its last good state, so a broken file must never appear."""
    write_json(path, flag_file(route))


def update_route(path: str | os.PathLike[str], change: Callable[[Route], Route]) -> Route:
    """Read the route, change it and write it back as one step. Everything that changes a route goes through here.

    A writer that reads first and writes later could lose a pin, or put an old mode back over a fallback. The lock belongs to the flag file, not
    to the registry: an operator who pins the teacher during an incident must not wait until MLflow answers.

    A file that cannot be read, or that contradicts itself, is written again. Where clones share a store, it is their flag that is changed, and the file is a copy.

    Returns:
        The route that is in the file now.

    Raises:
        DataError: the flag file or its lock cannot be written.
    """
    file = Path(path)
    if (shared := SharedFlag.here(FLAG)) is not None:
        with _locked(file):
            return _update_shared(shared, file, change)
    change(read_route(file))  # A refused change writes no file, not even the lock's file.
    with _locked(file):
        before = read_route(file)
        after = change(before)
        if after != before or (trusted_route(file) is None and os.path.lexists(file)):
            write_route(file, after)
        return after


def _update_shared(shared: SharedFlag, file: Path, change: Callable[[Route], Route]) -> Route:
    """As ``update_route``, on the flag of all clones. ``change`` may be called again, with what another writer wrote."""
    while True:
        number = shared.pull(file)
        before = read_route(file)
        after = change(before)
        if after == before and number and trusted_route(file) is not None:
            return after
        content = shared.publish(flag_file(after), number, file)
        if content is not None:
            with replacing(file) as temporary:
                temporary.write_bytes(content)
            return after


def refresh_route(path: str | os.PathLike[str]) -> None:
    """Make the file what all clones see, where there is a shared store.

    Raises:
        DataError: the store or the file cannot be used.
    """
    if (shared := SharedFlag.here(FLAG)) is not None:
        with _locked(Path(path)):
            shared.pull(Path(path))


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    lock = file.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        # Not blocking: a pipe in its place would wait for a reader for ever.
        handle = open(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666), "r+b", buffering=0)  # noqa: SIM115 - closed below; only opening it is reported as an error of the lock
    except OSError as error:
        raise DataError(
            f"the route's lock {lock} cannot be opened: {error.strerror or error}; fix the permissions of its folder, then set the route again"
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def flag_file(route: Route) -> dict[str, Any]:
    """The route as a flagd definition. The code default of every reader is teacher, so DISABLED or absent is safe."""
    return {
        "$schema": "https://flagd.dev/schema/v0/flags.json",
        "flags": {
            FLAG: {
                "state": "ENABLED",
                "variants": {"teacher": "teacher", "student": "student", "cascade": "cascade"},
                "defaultVariant": route.answers,
                **({"targeting": targeting} if (targeting := _targeting(route)) else {}),
                "metadata": {
                    "pin": route.pin,
                    "mode": route.mode,
                    "model_version": route.model_version or "",
                    "reason": route.reason,
                    "changed_at": route.changed_at,
                    "teacher": route.teacher,
                    # As text: flagd accepts no objects here.
                    **({} if route.cascade is None else {"cascade": json.dumps(dataclasses.asdict(route.cascade))}),
                    **({} if route.share == 1.0 else {"share": route.share}),
                    **({} if route.rollout is None else {"rollout": json.dumps(dataclasses.asdict(route.rollout))}),
                    **({"teacher_slices": json.dumps(route.teacher_slices)} if route.teacher_slices else {}),
                },
            }
        },
    }


def _targeting(route: Route) -> dict[str, Any]:
    """The rules of the flag for readers that evaluate it themselves; empty where all requests are alike.

    Source: flagd's ``fractional`` operation on ``targetingKey`` (https://flagd.dev/reference/custom-operations/fractional-operation/).
    """
    if route.pin != "none" or route.answers == "teacher":
        return {}
    rule: Any = route.answers
    if route.share < 1.0:
        parts = round(route.share * _PARTS)
        # Without a key flagd would use the default variant for everybody.
        rule = {"if": [{"var": "targetingKey"}, {"fractional": [[route.answers, parts], ["teacher", _PARTS - parts]]}, "teacher"]}
    if route.teacher_slices:
        return {"if": [{"in": [{"var": "slice"}, list(route.teacher_slices)]}, "teacher", rule]}
    return rule if isinstance(rule, dict) else {}


def evaluate(path: str | os.PathLike[str], targeting_key: str = "", timeout_s: float = 10.0) -> Mode:
    """Read the flag as a router does: OpenFeature with flagd's file resolver. After any error, or where flag and metadata do not agree, the route is the teacher."""
    from openfeature import api
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType
    from openfeature.evaluation_context import EvaluationContext

    recorded = read_route(path).answers
    if recorded == "teacher":
        return "teacher"
    domain = f"redistill-{os.path.abspath(path)}"
    client = api.get_client(domain)
    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(path), deadline_ms=int(timeout_s * 1000))
    try:
        api.set_provider_and_wait(provider, domain)
        answer = client.get_string_value(FLAG, "teacher", EvaluationContext(targeting_key=targeting_key))
        return recorded if answer == recorded else "teacher"
    except Exception:
        # If the flag cannot be read, the teacher responds, so that quality does not suffer.
        return "teacher"
    finally:
        provider.shutdown()


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
