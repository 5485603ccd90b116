"""A version that is live as a cascade: what is signed, what is tested again, and what another threshold of the same weights may do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from redistill.errors import RegistryError
from tests.integration.conftest import Registry

GATES = ["teacher", "champion"]
RIGHT = 100
"""The student is right on the first 100 rows, the teacher on the first 120: a cascade that answers 100 rows loses nothing."""


def live(registry: Registry, **promote: Any) -> str:
    from tasks.promotion import approve

    version = registry.version(RIGHT, seed=11, threshold=0.5)
    approve.promote(registry.params, version, "passed")
    return version


def events(registry: Registry) -> list[Any]:
    from tasks.registry import transitions

    return transitions.history(registry.client, registry.params)


def judged(registry: Registry) -> Any:
    from tasks.promotion.judge import judge_arm

    return judge_arm(registry.client, registry.params, events(registry))


def test_what_is_live_is_the_threshold_that_was_signed(make_registry: Callable[..., Registry]) -> None:
    from redistill.serving.route_flag import read_route
    from tasks.promotion.live_system import live_cascade, verify_live
    from tasks.promotion.retest_champion import retest_champion
    from tasks.registry import transitions
    from tasks.registry.artifact import downloaded
    from tasks.registry.history import History

    registry = make_registry(gates=GATES)
    version = live(registry)
    route, found = read_route(transitions.FLAGS), live_cascade(events(registry), version)
    assert route.answers == "cascade" and found is not None and found.threshold == 0.5 and route.cascade == found
    assert events(registry)[-1].judged_run, "the run with the judgement is named"
    check = retest_champion(registry.params, History())
    assert check is not None and check.trusted and check.cascade == found and check.answered == 0.5
    assert "champion 60.0 % exact match against the teacher's 60.0 %" in check.sentence, "the system, not its student's 50 %"
    weights = downloaded(registry.client, registry.params, version)
    forged = [replace(e, cascade={**dataclasses.asdict(found), "threshold": 0.1}) for e in events(registry)]
    with pytest.raises(RegistryError, match="another threshold than the signed one"):
        verify_live(registry.client, registry.params, forged, version, weights)
    newer = [replace(e, cascade={"score": "s", "speed": 3}) for e in events(registry)]
    with pytest.raises(RegistryError, match="newer redistill"):
        verify_live(registry.client, registry.params, newer, version, weights)


def test_judging_what_is_live_again_promotes_nothing_and_uses_no_look(make_registry: Callable[..., Registry]) -> None:
    registry = make_registry(gates=GATES)
    live(registry)
    again = judged(registry)
    assert again.is_champion and again.repeated and (again.decision.verdict, again.decision.mode) == ("promote", "cascade")
    assert [step.mode for step in again.decision.steps] == ["cascade"], "at this level, the student alone is not judged"
    assert len(again.looks) == 1


def test_another_threshold_of_live_weights_is_another_system(make_registry: Callable[..., Registry]) -> None:
    from tasks.promotion import approve
    from tasks.registry.history import History

    registry = make_registry(gates=GATES)
    version = live(registry)
    assert registry.version(RIGHT, seed=11, threshold=0.6) == version, "the same weights are the same version"
    other = judged(registry)
    assert not other.is_champion and len(other.looks) == 2 and other.promoted_cascade is not None
    person = replace(registry.params, promote=replace(registry.params.promote, approval="person"))
    waits = approve.blocked_by(person, version, True, History(), other.promoted_cascade)
    assert waits is not None and "waits for a person" in waits
    assert events(registry)[-1].kind == "waiting", "also for a version that was promoted before"
    from tasks.promotion.live_system import live_cascade

    assert approve.blocked_by(person, version, True, History(), live_cascade(events(registry), version)) is None, (
        "what is live needs no approval"
    )


def test_nothing_goes_live_but_the_judgement_that_passed(make_registry: Callable[..., Registry]) -> None:
    from tasks.promotion import approve

    registry = make_registry(gates=GATES)
    version = registry.version(RIGHT, seed=12, threshold=0.5)
    first = judged(registry).question
    registry.version(RIGHT, seed=12, threshold=0.6)
    with pytest.raises(RegistryError, match="was judged again meanwhile"):
        approve.promote(registry.params, version, "passed", first)


def test_a_rollback_brings_the_threshold_back(make_registry: Callable[..., Registry]) -> None:
    from redistill.serving.route_flag import read_route
    from tasks.promotion import approve
    from tasks.registry import transitions

    registry = make_registry(gates=GATES)
    version = live(registry)
    better = registry.version(120, seed=13)
    approve.promote(registry.params, better, "passed")
    assert read_route(transitions.FLAGS).answers == "student"
    approve.rollback(registry.params, None, "trial")
    route = read_route(transitions.FLAGS)
    assert (route.answers, route.model_version, route.cascade and route.cascade.threshold) == ("cascade", version, 0.5)
    assert events(registry)[-1].judged_run == events(registry)[0].judged_run


def test_a_challenger_must_match_the_system_that_is_live(make_registry: Callable[..., Registry]) -> None:
    registry = make_registry(gates=GATES)
    live(registry)
    registry.version(RIGHT, seed=14)
    gates = {g.name: g for g in judged(registry).decision.gates}
    assert "against the champion's 60.0 %" in gates["non_inferior_to_champion"].sentence, "the cascade's, not its student's 50 %"


def test_events_and_judgements_of_before_there_were_cascades_are_read() -> None:
    from tasks.promotion.live_system import live_cascade, promoted_by, promoted_cascade
    from tasks.registry.history import Event

    old = Event(
        **json.loads(
            '{"id": "a", "kind": "promote", "version": "1", "at": "2026-01-01", "by": "x", "reason": "r", "champion": "1", "previous": null, "route": "student"}'
        )
    )
    assert live_cascade([old], "1") is None and promoted_by([old], "1") == "" and live_cascade([], "1") is None
    assert promoted_cascade({"decision": {"verdict": "promote"}}) is None
