"""An alarm of live traffic: the route falls at once, and the history says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from redistill.errors import RedistillError
from redistill.params import Params
from redistill.serving.route_flag import to_teacher, update_route
from redistill.serving.router.saying import say
from redistill.serving.types import Route
from tasks.registry import alarms
from tasks.registry.transitions import FLAGS
from tasks.serving.rollout import stop

Fall = Literal["teacher", "version-before", "pinned", "not-live", "failed"]
"""What an alarm did: who has the traffic now, or why nothing changed. ``not-live``: the version has no traffic any more. ``failed``: the flag cannot be written."""


def fall_back(params: Params, reason: str, route: Route) -> Fall:
    """After the guard's alarm, send the traffic of ``route`` to the version before during a rollout, otherwise to the teacher.

    Nothing changes where a person has pinned the student, or where the version has no traffic any more: another one is live, or its rollout was stopped.
    """
    if route.rollout is not None and stop(params, reason, route):
        # The version before is still there, and did nothing wrong.
        return "version-before"
    return _fallen(params, reason, route.model_version or "", _has_traffic)


def all_to_teacher(params: Params, reason: str, version: str) -> Fall:
    """After drift of the traffic of ``version``, send all traffic to the teacher. A rollout ends: the version before was not trained for these requests either."""
    return _fallen(params, reason, version, _is_named)


def _has_traffic(now: Route, version: str) -> bool:
    """Whether a version answers any requests. A stopped rollout keeps its name in the flag until the registry has the rollback."""
    if now.rollout is None:
        return now.model_version == version
    return now.rollout.version == version or (now.model_version == version and now.rollout.share > 0.0)


def _is_named(now: Route, version: str) -> bool:
    return version in (now.model_version, now.rollout.version if now.rollout is not None else None)


def _fallen(params: Params, reason: str, version: str, concerned: Callable[[Route, str], bool]) -> Fall:
    """The flag comes first: it must not wait for a registry that does not answer. The watcher finds the alarm, tells people and starts a cycle."""
    fall: Fall = "failed"

    def change(now: Route) -> Route:
        nonlocal fall
        if now.mode == "teacher" or not concerned(now, version):
            fall = "not-live"
        elif now.pin == "student":
            # A person who pinned the student has decided.
            fall = "pinned"
        else:
            fall = "teacher"
            return to_teacher(now, reason)
        return now

    try:
        update_route(FLAGS, change)
    except RedistillError as error:
        say(f"warning: the alarm changed nothing ({error}); set the route with `redistill route set teacher --reason REASON`: {reason}")
        return "failed"
    if fall != "teacher":
        return fall
    say(f"alarm: {reason}; the teacher answers now")
    try:
        alarms.note(version, reason)
        alarms.record_missing(params)
    except RedistillError as error:
        say(f"warning: the alarm is not in the history yet ({error}); the watcher or the next cycle records it")
    return fall
