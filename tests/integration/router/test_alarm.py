"""The guard's alarm: the flag falls, the history says why, people are told once, and the next cycle has its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from redistill.serving.types import Route
from tests.bench.router.processes import free_port
from tests.integration.conftest import Registry
from tests.integration.router.test_serve import promoted


def test_the_flag_falls_first_and_the_watcher_takes_the_alarm_once(
    make_registry: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    from redistill.operations.workspace import Workspace
    from redistill.runtime.running_services import TEMPORARY
    from redistill.serving.route_flag import read_route, update_route, with_pin
    from tasks.orchestration import guard_alarm
    from tasks.registry import transitions
    from tasks.registry.alarms import ALARM
    from tasks.serving.fall_back import fall_back

    monkeypatch.setenv(TEMPORARY, "1")  # no server of Prefect, so nobody to tell
    registry = make_registry(gates=["audit", "teacher"])
    version = promoted(registry)
    live, workspace = read_route(transitions.FLAGS), Workspace.here(registry.params.data.name)
    fall_back(registry.params, "about another version", replace(live, model_version="99"))
    assert read_route(transitions.FLAGS) == live and guard_alarm.take(registry.params, workspace) == []
    update_route(transitions.FLAGS, lambda now: with_pin(now, "student", "trial"))
    fall_back(registry.params, "a person has decided", live)
    assert read_route(transitions.FLAGS).answers == "student", "a pin is not overridden"
    update_route(transitions.FLAGS, lambda now: with_pin(now, "auto", "trial"))
    fall_back(registry.params, "the guard: too much disagreement", live)
    assert read_route(transitions.FLAGS).answers == "teacher"
    last = transitions.history(registry.client, registry.params)[-1]
    assert (last.kind, last.version, last.reason) == ("alarm", version, "the guard: too much disagreement")
    assert (
        guard_alarm.take(registry.params, workspace) == ["the guard: too much disagreement"]
        and guard_alarm.take(registry.params, workspace) == []
    )
    ALARM.write_text("{", encoding="utf-8")
    assert guard_alarm.take(registry.params, workspace) == []


def test_a_version_gets_its_traffic_back_from_a_person_and_not_from_the_rows_that_knew_nothing(
    make_registry: Callable[..., Registry],
) -> None:
    from redistill.serving.route_flag import read_route
    from tasks.promotion import approve
    from tasks.promotion.retest_champion import retest_champion
    from tasks.registry import transitions
    from tasks.registry.history import History
    from tasks.serving.fall_back import fall_back

    registry = make_registry(gates=["audit", "teacher"])
    version = promoted(registry)
    check = retest_champion(registry.params, History())
    assert check is not None and check.trusted and approve.blocked_by(registry.params, version, True, History()) is None
    fall_back(registry.params, "the guard: too much disagreement", read_route(transitions.FLAGS))
    again = retest_champion(registry.params, History())
    assert again is not None and not again.trusted and again.sentence.startswith(f"live traffic of version {version} raised an alarm on 20")
    blocked = approve.blocked_by(registry.params, version, True, History())
    assert blocked is not None and blocked.endswith(
        f"the guard: too much disagreement; `redistill promote {version}` gives it its traffic back"
    )
    approve.approve(registry.params, version, "looked at fifty of them: the teacher was wrong")
    assert read_route(transitions.FLAGS).answers == "student"
    last = retest_champion(registry.params, History())
    assert last is not None and last.trusted and approve.blocked_by(registry.params, version, True, History()) is None


@pytest.mark.parametrize("watched", [True, False])
def test_an_alarm_that_the_registry_did_not_take_is_recorded_before_the_next_re_test(
    make_registry: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    from redistill.operations.workspace import Workspace
    from redistill.runtime.running_services import TEMPORARY
    from redistill.serving.route_flag import read_route
    from tasks.orchestration import guard_alarm
    from tasks.promotion import approve
    from tasks.promotion.retest_champion import retest_champion
    from tasks.registry import alarms, transitions
    from tasks.registry.history import History
    from tasks.serving.fall_back import fall_back

    monkeypatch.setenv(TEMPORARY, "1")
    registry = make_registry(gates=["audit", "teacher"])
    version, params = promoted(registry), registry.params
    workspace = Workspace.here(params.data.name)
    with monkeypatch.context() as down:
        down.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
        down.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        fall_back(params, "the guard: too much disagreement", read_route(transitions.FLAGS))
        assert read_route(transitions.FLAGS).answers == "teacher", "the flag does not wait for the registry"
        if watched:
            assert guard_alarm.take(params, workspace) == ["the guard: too much disagreement"], "people are told without a registry too"
    assert all(event.kind != "alarm" for event in transitions.history(registry.client, params))
    check = retest_champion(params, History())
    assert check is not None and not check.trusted and "raised an alarm" in check.sentence
    last = transitions.history(registry.client, params)[-1]
    assert (last.kind, last.version, last.reason) == ("alarm", version, "the guard: too much disagreement")
    assert guard_alarm.take(params, workspace) == ([] if watched else ["the guard: too much disagreement"])
    retest_champion(params, History())
    assert [e.kind for e in transitions.history(registry.client, params)].count("alarm") == 1, "once"
    approve.approve(params, version, "looked at fifty of them: the teacher was wrong")
    alarms.UNRECORDED.mkdir(exist_ok=True)
    (alarms.UNRECORDED / "a.json").write_text(f'{{"version": "{version}", "reason": "older", "at": "{last.at}"}}', encoding="utf-8")
    (alarms.UNRECORDED / "b.json").write_text("{", encoding="utf-8")
    again = retest_champion(params, History())
    assert again is not None and again.trusted, "a person has promoted it since that alarm"


def test_an_alarm_about_a_stopped_version_leaves_the_traffic_of_the_version_before(
    make_registry: Callable[..., Registry],
) -> None:
    from redistill.serving.rollout import with_share
    from redistill.serving.route_flag import read_route, update_route, with_pin
    from redistill.serving.types import Rollout
    from tasks.registry import transitions
    from tasks.serving.fall_back import all_to_teacher, fall_back

    registry = make_registry(gates=["audit", "teacher"])
    version = promoted(registry)

    def under_way(share: float) -> Route:
        rollout = Rollout("before", None, share, "2026-11-28T02:00:00+00:00")
        return update_route(transitions.FLAGS, lambda now: replace(now, mode="student", model_version=version, rollout=rollout))

    seen = under_way(0.5)
    assert seen.rollout is not None
    # A rollback takes seconds, and comparisons that were under way end in them.
    stopped = update_route(transitions.FLAGS, lambda now: with_share(now, now.rollout or seen.rollout, 0.0, "it fails"))
    assert fall_back(registry.params, "the guard: too much disagreement", seen) == "not-live"
    assert fall_back(registry.params, "the guard: too much disagreement", stopped) == "not-live"
    assert read_route(transitions.FLAGS) == stopped, "the version before did nothing wrong"
    before = stopped.before
    assert before is not None
    assert fall_back(registry.params, "the guard about the version before", before) == "teacher"
    last = transitions.history(registry.client, registry.params)[-1]
    assert (last.kind, last.version) == ("alarm", "before")
    for share in (0.0, 0.5):
        under_way(share)
        update_route(transitions.FLAGS, lambda now: with_pin(now, "student", "trial"))
        assert all_to_teacher(registry.params, "drift", version) == "pinned"
        update_route(transitions.FLAGS, lambda now: with_pin(now, "auto", "trial"))
        assert all_to_teacher(registry.params, f"drift at {share:g}", version) == "teacher"
        now = read_route(transitions.FLAGS)
        assert (now.mode, now.model_version, now.rollout) == ("teacher", None, None)
        assert all_to_teacher(registry.params, "drift", version) == "not-live"
