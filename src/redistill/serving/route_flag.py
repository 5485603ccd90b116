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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from redistill.errors import ConfigError, DataError
from redistill.io.json import write_json
from redistill.promotion.cascade import Cascade, cascade_from_json
from redistill.serving.types import Mode, Route

FLAG = "redistill-route"
Pin = Literal["none", "teacher", "student"]
SAFE = Route("none", "teacher", None, "no readable route", "")


def read_route(path: str | os.PathLike[str]) -> Route:
    """The route in the file; the teacher if the file cannot be read."""
    try:
        flag = json.loads(Path(path).read_text(encoding="utf-8"))["flags"][FLAG]
        meta = flag["metadata"]
        version, pin, mode = meta["model_version"] or None, meta["pin"], meta["mode"]
        known = pin in get_args(Pin) and mode in get_args(Mode) and isinstance(version, str | None)
        cascade = cascade_from_json(json.loads(meta["cascade"])) if meta.get("cascade") else None
        # A cascade without a threshold would be a student that answers everything.
        if flag["state"] != "ENABLED" or not known or (mode == "cascade" and not (cascade and math.isfinite(cascade.limit))):
            return SAFE
        return Route(pin, mode, version, str(meta["reason"]), str(meta["changed_at"]), str(meta.get("teacher", "")), cascade)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return SAFE


def to_teacher(route: Route, reason: str, teacher: str = "") -> Route:
    """The route with the teacher as the system's mode; an operator's pin is kept, and the teacher unless another one is named."""
    return Route(route.pin, "teacher", None, reason, _now(), teacher or route.teacher)


def to_version(route: Route, version: str, cascade: Cascade | None, reason: str, teacher: str = "") -> Route:
    """The route with a version as the system's mode: alone, or as a cascade; pin and teacher as with ``to_teacher``."""
    return Route(route.pin, "student" if cascade is None else "cascade", version, reason, _now(), teacher or route.teacher, cascade)


def with_pin(route: Route, wanted: str, reason: str) -> Route:
    """The route with the operator's pin: ``teacher``, ``student``, or ``auto`` to remove the pin.

    Raises:
        ConfigError: an unknown word, an empty reason, or ``student`` where no version has been promoted.
    """
    if wanted not in ("teacher", "student", "auto"):
        raise ConfigError(f"route {wanted!r} is unknown; set teacher, student or auto")
    if not reason.strip():
        raise ConfigError("give a reason with --reason; it is recorded in the flag")
    if wanted == "student" and route.model_version is None:
        raise ConfigError("no student has been promoted yet, so the student cannot be pinned; run a cycle first, or pin the teacher")
    pin: Any = "none" if wanted == "auto" else wanted
    return replace(route, pin=pin, reason=reason, changed_at=_now())


def write_route(path: str | os.PathLike[str], route: Route) -> None:
    """Write the flag file whole or not at all; flagd keeps its last good state, so a broken file must never appear."""
    write_json(path, flag_file(route))


def update_route(path: str | os.PathLike[str], change: Callable[[Route], Route]) -> Route:
    """Read the route, change it and write it back as one step. Everything that changes a route goes through here.

    A writer that reads first and writes later could lose a pin, or put an old mode back over a fallback. The lock belongs to the flag file, not
    to the registry: an operator who pins the teacher during an incident must not wait until MLflow answers.

    Returns:
        The route that is in the file now.

    Raises:
        DataError: the flag file or its lock cannot be written.
    """
    file = Path(path)
    change(read_route(file))  # A refused change writes no file, not even the lock's file.
    with _locked(file):
        before = read_route(file)
        after = change(before)
        if after != before:
            write_route(file, after)
        return after


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    lock = file.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = open(lock, "w", encoding="utf-8")  # noqa: SIM115 - closed below; only opening it is reported as an error of the lock
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
                "metadata": {
                    "pin": route.pin,
                    "mode": route.mode,
                    "model_version": route.model_version or "",
                    "reason": route.reason,
                    "changed_at": route.changed_at,
                    "teacher": route.teacher,
                    # As text: flagd accepts no objects here.
                    **({} if route.cascade is None else {"cascade": json.dumps(dataclasses.asdict(route.cascade))}),
                },
            }
        },
    }


def evaluate(path: str | os.PathLike[str], targeting_key: str = "", timeout_s: float = 10.0) -> Mode:
    """Read the flag as a router does: OpenFeature with flagd's file resolver. After any error the route is the teacher."""
    from openfeature import api
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType
    from openfeature.evaluation_context import EvaluationContext

    if not Path(path).is_file():
        return "teacher"
    domain = f"redistill-{os.path.abspath(path)}"
    client = api.get_client(domain)
    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(path), deadline_ms=int(timeout_s * 1000))
    try:
        api.set_provider_and_wait(provider, domain)
        answer = client.get_string_value(FLAG, "teacher", EvaluationContext(targeting_key=targeting_key))
        if answer == "cascade" and read_route(path).cascade is None:
            return "teacher"  # A variant without its threshold says nothing about who answers.
        return next((mode for mode in get_args(Mode) if mode == answer), "teacher")
    except Exception:
        # If the flag cannot be read, the teacher responds, so that quality does not suffer.
        return "teacher"
    finally:
        provider.shutdown()


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
