"""Sets the route: the flag file that says which model responds."""

from __future__ import annotations

from redistill.params import Params
from redistill.promotion.cascade import Cascade
from redistill.promotion.types import PromotionDecision
from redistill.serving.route_flag import read_route, to_teacher, to_version
from redistill.serving.types import Route
from tasks.promotion.present_teacher import present_teacher
from tasks.promotion.retest_champion import ChampionCheck
from tasks.registry.runs_and_versions import connect
from tasks.registry.transitions import FLAGS, apply_system_route, decided, live, record


def fall_back_to_teacher(params: Params, check: ChampionCheck) -> Route:
    """Send traffic to the teacher at once, because the champion is no longer trusted."""
    client = connect(params)
    fallback = to_teacher(read_route(FLAGS), f"champion version {check.version} is no longer trusted: {check.sentence}")
    before, route = apply_system_route(client, params, check.alias_version, fallback)
    if before.mode != "teacher" and route.mode == "teacher":
        record(client, params, "distrust", check.alias_version, check.sentence, live(client, params))
    return route


def planned(
    decision: PromotionDecision, version: str, cascade: Cascade | None, champion: ChampionCheck | None, blocked_reason: str | None = None
) -> Route:
    """The route after the decision: the promoted system; after a hold the champion if it is trusted, else the teacher.

    ``cascade`` is the one that the decision promotes, None if that is the student alone. ``blocked_reason`` says why a candidate that passed is not promoted.
    """
    old, teacher = read_route(FLAGS), present_teacher()
    if decision.verdict == "promote" and blocked_reason is None:
        new = to_version(old, version, cascade, f"version {version} was promoted", teacher)
    elif champion is not None and champion.trusted:
        state = f"keeps its traffic (night {champion.nights} on hold)" if champion.nights else "passed its re-test"
        what = blocked_reason or "the challenger did not pass"
        new = to_version(old, champion.version, champion.cascade, f"champion version {champion.version} {state}; {what}", teacher)
    else:
        new = to_teacher(old, "no student passed: " + (blocked_reason or decision.reasons[0]), teacher)
    same = bool(old.changed_at) and FLAGS.is_file() and decided(new) == decided(old)
    return old if same else new


def current() -> Route:
    """The route in the flag file."""
    return read_route(FLAGS)


def set_route(params: Params, route: Route, champion: ChampionCheck | None) -> Route:
    """Write the planned route, unless a person has changed the champion since the cycle read it."""
    return apply_system_route(connect(params), params, None if champion is None else champion.alias_version, route)[1]
