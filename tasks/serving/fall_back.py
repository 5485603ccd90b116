"""The guard's alarm: the route falls to the teacher at once, and the history says why."""

from __future__ import annotations

import sys

from redistill.errors import RedistillError
from redistill.params import Params
from redistill.serving.route_flag import to_teacher, update_route
from redistill.serving.types import Route
from tasks.registry.runs_and_versions import connect
from tasks.registry.transitions import FLAGS, live, record


def fall_back(params: Params, reason: str, route: Route) -> None:
    """Send the traffic of ``route`` to the teacher, unless another version is live by now. A pin is kept.

    The flag comes first: it must not wait for a registry that does not answer.
    """
    changed = False

    def change(now: Route) -> Route:
        nonlocal changed
        changed = now.model_version == route.model_version and now.mode != "teacher"
        return to_teacher(now, reason) if changed else now

    try:
        update_route(FLAGS, change)
        print(f"alarm: {reason}; the teacher answers now", file=sys.stderr, flush=True)
        if changed:
            client = connect(params)
            record(client, params, "distrust", route.model_version, reason, live(client, params))
    except RedistillError as error:
        print(f"warning: the alarm is not in the history ({error})", file=sys.stderr, flush=True)
