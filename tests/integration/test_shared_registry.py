"""The registry of clones that share a store: a cycle that lost its lease changes nothing, and an interrupted change is completed whatever the clocks say."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from redistill.errors import StageError
from redistill.io.lease import Lease
from redistill.io.present_lease import holding
from redistill.io.shared_store import SharedStore, project_store
from redistill.provenance import mlflow_names
from redistill.serving.route_flag import read_route, update_route, with_pin
from redistill.serving.shared_flag import SERVED
from tasks.promotion import approve
from tasks.registry import transitions
from tests.integration.conftest import Registry

Make = Callable[..., Registry]


@pytest.fixture
def registry(make_registry: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = make_registry()
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("REDISTILL_SHARED_STORE", (tmp_path / "shared").as_uri())
    monkeypatch.setenv("REDISTILL_LEASE_S", "5")
    return made


@pytest.fixture
def store(registry: Registry) -> SharedStore:
    shared = project_store()
    assert shared is not None
    return shared


def champion(registry: Registry) -> str | None:
    return transitions.live(registry.client, registry.params).champion


def test_a_cycle_that_lost_its_lease_promotes_nothing(registry: Registry, store: SharedStore) -> None:
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "first")
    served = store.read(SERVED)
    assert b'"model_version": "1"' in (served or b"")
    two = registry.version(124, seed=2)
    lost = Lease(store, "lease", 60.0).wait(lambda seen: seen.ended)
    assert lost is not None
    with holding(lost):
        lost.check()
        # What another worker does when this one was silent for too long.
        store.create("lease/000000000002.json", b'{"holder": "x", "host": "other", "pid": 7, "at": "", "note": {}}')
        with pytest.raises(StageError, match=r"lost its lease .token 1.: other .process 7. with token 2 has it now"):
            approve.promote(params, two, "late")
        with pytest.raises(StageError, match="lost its lease"):
            transitions.apply_system_route(registry.client, params, "1", read_route(transitions.FLAGS))
    assert champion(registry) == "1" and store.read(SERVED) == served
    assert mlflow_names.TAG_MOVE not in registry.client.get_registered_model(params.data.name).tags


@pytest.mark.parametrize("hours", [-1.0, 0.0, 1.0])
def test_an_interrupted_change_of_another_machine_is_undone_whatever_its_clock_says(registry: Registry, hours: float) -> None:
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "first")
    two = registry.version(124, seed=2)
    before = transitions.live(registry.client, params)
    at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
    plan = {"id": "x", "host": "elsewhere:/srv/.redistill", "at": at.isoformat(), "before": asdict(before), "after": asdict(before)}
    registry.client.set_registered_model_tag(params.data.name, mlflow_names.TAG_MOVE, json.dumps(plan))
    # Its clone was killed in the middle: the alias has moved, and the history does not say so.
    registry.client.set_registered_model_alias(params.data.name, mlflow_names.CHAMPION, two)
    assert "was undone" in str(transitions.recover(registry.client, params))
    assert champion(registry) == "1"


def test_a_clone_that_was_killed_in_the_middle_of_a_change_is_replaced(registry: Registry, store: SharedStore) -> None:
    store.create("moves/000000000007.json", b'{"holder": "x", "host": "other", "pid": 7, "at": "", "note": {}}')
    one = registry.version(122, seed=1)
    approve.promote(registry.params, one, "first")
    assert champion(registry) == one
    seen = Lease(store, "moves", 5.0).seen()
    assert seen is not None and seen.claim.token > 7 and seen.ended


def test_a_pin_of_another_clone_stays(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, here = registry.params, Path.cwd()
    approve.promote(params, registry.version(122, seed=1), "first")
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone/params.yaml").write_bytes(Path("params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path / "clone")
    update_route(transitions.FLAGS, lambda now: with_pin(now, "teacher", "an incident"))
    monkeypatch.chdir(here)
    assert read_route(transitions.FLAGS).pin == "none", "the copy here is older"
    approve.promote(params, registry.version(124, seed=2), "second")
    route = read_route(transitions.FLAGS)
    assert (route.pin, route.model_version, route.answers) == ("teacher", "2", "teacher")
