"""The guard's alarm: the route falls to the teacher at once, and the history says why."""

from __future__ import annotations

from redistill.errors import RedistillError
from redistill.params import Params
from redistill.serving.route_flag import to_teacher, update_route
from redistill.serving.router.saying import say
from redistill.serving.types import Route
from tasks.registry import alarms
from tasks.registry.transitions import FLAGS
from tasks.serving.rollout import stop


def fall_back(params: Params, reason: str, route: Route) -> None:
    """Send the traffic of ``route`` to the teacher, unless another version is live by now or a person has pinned the student.

    The flag comes first: it must not wait for a registry that does not answer. The watcher finds the alarm, tells people and starts a cycle.
    """
    if route.rollout is not None and stop(params, reason, route):
        # The version before is still there, and did nothing wrong.
        return
    changed = False

    def change(now: Route) -> Route:
        nonlocal changed
        # A person who pinned the student has decided.
        changed = now.model_version == route.model_version and now.mode != "teacher" and now.pin != "student"
        return to_teacher(now, reason) if changed else now

    try:
        update_route(FLAGS, change)
        if not changed:
            return
        say(f"alarm: {reason}; the teacher answers now")
        alarms.note(route.model_version or "", reason)
        alarms.record_missing(params)
    except RedistillError as error:
        say(f"warning: the alarm is not in the history yet ({error}); the watcher or the next cycle records it")
