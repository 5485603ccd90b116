"""Challengers that wait for a person, freezes, and the order of the history, on a real registry."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from redistill.errors import ConfigError, RegistryError
from tasks.promotion import approve, freeze, waiting
from tasks.registry import history, transitions
from tasks.registry.history import History
from tests.integration.conftest import Registry

ON_BOTH_BACKINGS = True
Make = Callable[..., Registry]


def blocked(registry: Registry, version: str) -> str | None:
    """What a night says about a version that passed."""
    return approve.blocked_by(registry.params, version, True, History())


def kinds(registry: Registry) -> list[tuple[str, str | None]]:
    return [(e.kind, e.version) for e in transitions.history(registry.client, registry.params)]


def test_a_challenger_is_announced_once_and_superseded_by_the_next(make_registry: Make) -> None:
    registry = make_registry(approval="person")
    one = registry.version(122, seed=1)
    for _ in range(3):
        assert blocked(registry, one) == f"version {one} waits for a person's approval"
    assert kinds(registry) == [("waiting", one)]
    two = registry.version(124, seed=2)
    blocked(registry, two)
    assert kinds(registry) == [("waiting", one), ("expired", one), ("waiting", two)]
    with pytest.raises(RegistryError, match=f"superseded by version {two}.*judge it again with `redistill gate {one}`"):
        approve.approve(registry.params, one, "I like it")
    approve.approve(registry.params, two, "read the report")
    assert transitions.live(registry.client, registry.params).champion == two


def test_a_challenger_that_waited_too_long_expires_until_it_is_judged_again(make_registry: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = make_registry(approval="person", approval_days=3)
    one = registry.version(122, seed=1)
    blocked(registry, one)
    events = transitions.history(registry.client, registry.params)
    now = dt.datetime.fromisoformat(events[-1].at)
    assert waiting.waits(events, one, 3, now + dt.timedelta(days=3)) is None
    late = waiting.waits(events, one, 3, now + dt.timedelta(days=3, seconds=1))
    assert late is not None and "longer than promote.approval_days=3" in late
    waiting.expire(registry.client, registry.params, one, events, late)
    assert "does not wait any more" in str(blocked(registry, one))
    waiting.announce(registry.client, registry.params, one, transitions.history(registry.client, registry.params), again=True)
    assert blocked(registry, one) == f"version {one} waits for a person's approval"
    assert kinds(registry) == [("waiting", one), ("expired", one), ("waiting", one)]


def test_a_freeze_stops_promotions_but_not_a_rollback(make_registry: Make) -> None:
    registry = make_registry()
    one, two = registry.version(122, seed=1), registry.version(124, seed=2)
    approve.promote(registry.params, one, "first")
    approve.promote(registry.params, two, "second")
    today = dt.datetime.now(dt.UTC).date()
    freeze.freeze(registry.params, today.isoformat(), "peak season")
    three = registry.version(125, seed=3)
    assert "promotions are frozen until" in str(blocked(registry, three)) and "peak season" in str(blocked(registry, three))
    with pytest.raises(RegistryError, match="peak season"):
        approve.approve(registry.params, three, "now")
    approve.rollback(registry.params, one, "complaints")
    assert transitions.live(registry.client, registry.params).champion == one
    assert freeze.frozen(registry.client, registry.params, today + dt.timedelta(days=1)) is None, "it ends by itself"
    assert freeze.end_freeze(registry.params, "over") and not freeze.end_freeze(registry.params, "over")
    assert blocked(registry, three) is None
    assert [kind for kind, _ in kinds(registry)] == ["promote", "promote", "freeze", "rollback", "unfreeze"]


@pytest.mark.parametrize(
    ("until", "reason", "says"), [("soon", "r", "not a date"), ("2020-01-01", "r", "this day is over"), ("2999-01-01", " ", "--reason")]
)
def test_a_freeze_that_says_nothing_is_refused(make_registry: Make, until: str, reason: str, says: str) -> None:
    registry = make_registry()
    with pytest.raises(ConfigError, match=says):
        freeze.freeze(registry.params, until, reason)
    assert kinds(registry) == []


def test_a_clock_that_is_an_hour_behind_does_not_change_the_order(make_registry: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that was rolled back must not come back because the rollback was written on a machine whose clock is late."""
    registry = make_registry()
    one, two = registry.version(122, seed=1), registry.version(124, seed=2)
    approve.promote(registry.params, one, "first")
    approve.promote(registry.params, two, "second")
    reader = History()
    reader.events(registry.client, registry.params)
    behind = dt.timedelta(hours=1)

    class Late(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return dt.datetime.now(tz) - behind

    monkeypatch.setattr(transitions, "dt", SimpleNamespace(datetime=Late, UTC=dt.UTC, timedelta=dt.timedelta))
    monkeypatch.setattr(history, "time", SimpleNamespace(time=lambda: time.time() - behind.total_seconds()))
    approve.rollback(registry.params, one, "complaints")
    monkeypatch.undo()
    events = reader.events(registry.client, registry.params)
    assert [(e.kind, e.sequence) for e in events] == [("promote", 1), ("promote", 2), ("rollback", 3)]
    assert events[2].at < events[1].at, "the times are those of the two clocks"
    assert "was rolled back" in str(history.withdrawn(events, two))
