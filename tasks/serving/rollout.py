"""Moves a rollout on in the flag, and back to the version before when the router's counts say so."""

from __future__ import annotations

from contextlib import suppress

from redistill.errors import RedistillError
from redistill.params import Params
from redistill.serving.rollout import with_share
from redistill.serving.route_flag import update_route
from redistill.serving.router.saying import say
from redistill.serving.types import Rollout, Route
from tasks.promotion import approve
from tasks.registry import alarms
from tasks.registry.transitions import FLAGS


def advance(seen: Rollout, share: float | None, reason: str) -> None:
    """Write the next share, unless somebody has changed the rollout meanwhile."""
    try:
        update_route(FLAGS, lambda now: with_share(now, seen, share, reason))
    except RedistillError as error:
        say(f"warning: the rollout stays where it is ({error})")


def stop(params: Params, reason: str, route: Route) -> bool:
    """Give all keys to the version before at once, then make it the champion again; False if no rollout of these two versions is under way.

    The flag comes first: it must not wait for a registry that does not answer. The watcher finds the alarm and tells people.
    """
    changed = False

    def change(now: Route) -> Route:
        nonlocal changed
        changed = _same(now, route) and now.rollout is not None and now.rollout.share > 0.0
        return with_share(now, now.rollout, 0.0, reason) if changed and now.rollout is not None else now

    try:
        update_route(FLAGS, change)
        if not changed or route.rollout is None:
            return False
        say(f"alarm: {reason}; version {route.rollout.version} answers now")
        alarms.note(route.model_version or "", reason)
        approve.rollback(params, route.rollout.version, reason)
    except RedistillError as error:
        say(f"warning: the rollback is not in the registry ({error}); run `redistill rollback --reason REASON`")
        return changed
    # The history has the rollback, which says it, so the alarm needs no line of its own. Otherwise the next cycle looks again.
    with suppress(RedistillError):
        alarms.record_missing(params)
    return changed


def _same(now: Route, route: Route) -> bool:
    return (
        now.rollout is not None
        and route.rollout is not None
        and (now.model_version, now.rollout.version) == (route.model_version, route.rollout.version)
    )
