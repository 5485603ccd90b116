"""Changes aliases and route together, or not at all.

A transition is recorded in a tag of the registered model before it starts, and committed by its entry in the history. If the next command finds
the tag, it completes a committed transition and undoes any other. So a crash between two steps leaves nothing half-promoted. A transition
knows what it expects to find, and stops if another process has changed it. MLflow itself would let the last writer win.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import json
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from redistill.errors import RegistryError
from redistill.io import lease, present_lease
from redistill.io.shared_store import project_store
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.runtime.identity import current_user
from redistill.runtime.service_failures import explain
from redistill.serving.route_flag import keeping_operators_part, read_route, refresh_route, to_teacher, update_route
from redistill.serving.types import Route
from tasks.paths import ARTIFACTS, STATE
from tasks.registry.client import RegistryClient
from tasks.registry.history import Event, History, Kind, append
from tasks.registry.move_plan import MOVED, MOVES, Live, Plan, contradiction
from tasks.registry.runs_and_versions import registered_model

FLAGS = ARTIFACTS / "route" / "flags.json"
_UNDER_WAY = dt.timedelta(minutes=2)
"""A transition takes seconds. On this machine a lock shows whether it still runs; on another machine only its age can show it."""


def live(client: RegistryClient, params: Params) -> Live:
    """What is live now, read from MLflow and the flag file."""
    aliases = registered_model(client, params.data.name).aliases
    versions = {name: (str(aliases[name]) if name in aliases else None) for name in MOVED}
    return Live(**versions, route=read_route(FLAGS))


def history(client: RegistryClient, params: Params) -> list[Event]:
    """Every promotion, hold, rejection and rollback, oldest first."""
    return History().events(client, params)


def record(client: RegistryClient, params: Params, kind: Kind, version: str | None, reason: str, now: Live) -> None:
    """Record an event that changes no alias: a hold or a rejection."""
    with registry_lock():
        append(client, params, _event(uuid.uuid4().hex, kind, version, reason, now))


def move(
    client: RegistryClient, params: Params, kind: Kind, version: str, reason: str, before: Live, after: Live, judged_run: str = ""
) -> Event:
    """Change from ``before`` to ``after``; after any failure everything is as before. ``judged_run`` has the judgement that it rests on.

    Raises:
        RegistryError: ``before`` is not live any more, another transition is running, or MLflow failed; then nothing has changed.
    """
    with registry_lock():
        _recover(client, params)
        if (now := live(client, params)) != before:
            raise RegistryError(_changed(before, now))
        system = None if after.route.cascade is None else dataclasses.asdict(after.route.cascade)
        event = replace(_event(uuid.uuid4().hex, kind, version, reason, after), judged_run=judged_run, cascade=system)
        name = params.data.name
        client.set_registered_model_tag(name, mlflow_names.TAG_MOVE, Plan.text(event.id, _here(), event.at, before, after))
        try:
            if json.loads(registered_model(client, name).tags[mlflow_names.TAG_MOVE])["id"] != event.id:
                raise RegistryError(
                    "another promotion or rollback has just started on another machine; check `redistill history`, then try again"
                )
            _apply(client, params, after)
            append(client, params, event)
        except BaseException as error:
            _write(before.route)
            # If MLflow does not respond, the tag stays, and the next command undoes the rest.
            with suppress(Exception):
                _recover(client, params, event.id)
                if any(e.id == event.id for e in history(client, params)):
                    return event  # it was committed before the failure, and _recover completed it
            if isinstance(error, RegistryError) or not isinstance(error, Exception):
                raise
            raise RegistryError(f"the change was undone because MLflow failed ({explain(error).line[:200]}); try again") from error
        with suppress(Exception):
            # It is committed; if the tag stays, the next command removes it.
            client.delete_registered_model_tag(name, mlflow_names.TAG_MOVE)
        return event


def apply_system_route(client: RegistryClient, params: Params, champion: str | None, wanted: Route) -> tuple[Route, Route]:
    """Write the system's part of the route unless the champion has changed since ``champion`` was read; returns the routes before and after.

    If it has changed, the route that came with the change stays. An operator's pin is always kept.
    """
    with registry_lock():
        _recover(client, params)
        now = live(client, params)
        if now.champion is None and champion is not None:
            wanted = to_teacher(wanted, f"champion version {champion} was deleted while the cycle ran")
        elif now.champion != champion:
            return now.route, now.route
        return now.route, _write(wanted)


def recover(client: RegistryClient, params: Params) -> str | None:
    """Complete or undo a transition that a crash interrupted; returns a sentence about it, or None."""
    with registry_lock():
        return _recover(client, params)


def moved_outside(
    client: RegistryClient,
    params: Params,
    events: Sequence[Event],
    aliases: Sequence[str] = (mlflow_names.CHAMPION, mlflow_names.REFERENCE),
) -> str | None:
    """A sentence if one of the aliases is not the version in the history (``events``), else None."""
    events = [event for event in events if event.kind in MOVES]
    now = live(client, params)
    for alias in aliases:
        recorded, actual = (getattr(events[-1], alias) if events else None), now.aliases[alias]
        if actual != recorded:
            return (
                f"alias {alias} is version {actual or 'none'}, but redistill last set it to {recorded or 'none'}: another tool changed it; correct "
                "it with `redistill rollback --to VERSION`, `redistill promote VERSION` or `redistill reference VERSION`"
            )
    return None


def been_champion(events: Sequence[Event]) -> set[str]:
    """Every version that a promotion or rollback has ever made the champion."""
    return {e.champion for e in events if e.kind in ("promote", "rollback") and e.champion}


def _recover(client: RegistryClient, params: Params, own: str = "") -> str | None:
    """``own`` is the id of a plan that this process has just written: it needs no check against the history."""
    name = params.data.name
    tag = registered_model(client, name).tags.get(mlflow_names.TAG_MOVE)
    if tag is None:
        return None
    try:
        plan = Plan.read(tag)
    except (ValueError, KeyError, TypeError, AttributeError):
        return _not_obeyed(client, name, "it cannot be read")
    age = dt.datetime.now(dt.UTC) - plan.at
    # Clones that share a store hold the lock of all, so a plan that is there was interrupted, whatever the clocks of the two machines say.
    if plan.host != _here() and project_store() is None and -_UNDER_WAY < age < _UNDER_WAY:
        raise RegistryError(
            f"a promotion or rollback has been running on {plan.host} for {age.seconds} s; try again in {_UNDER_WAY.seconds} s"
        )
    events = history(client, params)
    committed = next((event for event in events if event.id == plan.id), None)
    target = plan.before if committed is None else plan.after
    if plan.id != own and (problem := contradiction(target, committed, events)) is not None:
        return _not_obeyed(client, name, problem)
    # The flag file of another machine is not here, unless clones share their flag; the next command on that machine sets it.
    ours = plan.host == _here() or project_store() is not None
    _apply(client, params, target if ours else replace(target, route=read_route(FLAGS)))
    client.delete_registered_model_tag(name, mlflow_names.TAG_MOVE)
    return f"an interrupted promotion or rollback was {'undone' if committed is None else 'completed'}; the champion is version {target.champion or 'none'}"


def _not_obeyed(client: RegistryClient, name: str, why: str) -> str:
    client.delete_registered_model_tag(name, mlflow_names.TAG_MOVE)
    return f"the tag {mlflow_names.TAG_MOVE} was removed and not obeyed: {why}; check `redistill history` and who can write to MLflow"


def _apply(client: RegistryClient, params: Params, target: Live) -> None:
    """Sets `previous` before `champion`, so that a rollback target exists at every moment."""
    name = params.data.name
    now = live(client, params)
    for alias in (mlflow_names.REFERENCE, mlflow_names.PREVIOUS, mlflow_names.CHAMPION):
        version = target.aliases[alias]
        if version == now.aliases[alias]:
            continue
        if version is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, version)
    if target.route != now.route:
        _write(target.route)


def _write(target: Route) -> Route:
    """Write the system's part of a route. What the operator decided is kept, even if a stored plan has something else.

    If mode, version and teacher are right already, the file does not change, because its reason may be the operator's.
    """

    def change(now: Route) -> Route:
        # Without a time it is not what a file says, but what stands in for one that cannot be read.
        same = bool(now.changed_at) and FLAGS.is_file() and decided(target) == decided(now)
        return now if same else keeping_operators_part(target, now)

    return update_route(FLAGS, change)


def decided(route: Route) -> tuple[object, ...]:
    """What a decision says about the route; the rest is the operator's, or tells when and why."""
    return route.mode, route.model_version, route.teacher, route.cascade


def _here() -> str:
    """Identifies this project on this machine: a plan records it, because its route belongs to the flag file there."""
    return f"{socket.gethostname()}:{STATE.absolute()}"


def _event(move_id: str, kind: Kind, version: str | None, reason: str, now: Live) -> Event:
    at = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
    return Event(move_id, kind, version, at, current_user(), reason[:4000], now.champion, now.previous, now.route.answers, now.reference)


def _changed(before: Live, now: Live) -> str:
    for alias in MOVED:
        if before.aliases[alias] != now.aliases[alias]:
            return (
                f"alias {alias} is now version {now.aliases[alias] or 'none'}, not {before.aliases[alias] or 'none'}: another process changed it; "
                "check `redistill history`, then try again"
            )
    return "another process has changed the route; check `redistill route get`, then try again"


@contextmanager
def registry_lock() -> Iterator[None]:
    """One change at a time in this project, and in all clones that share a store. Between other machines, the tag and the comparison with the expected state protect a transition.

    Raises:
        StageError: this process works under a lease that it has lost, so it must not change what is live.
        RegistryError: another clone has been changing the registry for minutes.
    """
    STATE.mkdir(parents=True, exist_ok=True)
    with open(STATE / "moves.lock", "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        held = _of_all_clones()
        try:
            present_lease.require()
            refresh_route(FLAGS)
            yield
        finally:
            if held is not None:
                held.release()


def _of_all_clones() -> lease.Held | None:
    if (store := project_store()) is None:
        return None
    deadline_s = time.monotonic() + _UNDER_WAY.seconds + lease.ttl_s()
    held = lease.Lease(store, "moves", lease.ttl_s()).wait(lambda _: time.monotonic() < deadline_s, poll_s=0.2)
    if held is None:
        raise RegistryError("another clone has been changing the registry for minutes; look at `redistill history`, then try again")
    return held
