"""What is live moves as one, on a real registry: promotion, rollback, crashes at every step, rivals, and hands from outside."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from redistill.errors import ConfigError, RegistryError
from redistill.io.digests import tree_digest
from redistill.provenance import mlflow_names
from redistill.runtime.identity import current_user
from redistill.serving.route_flag import read_route, to_teacher, to_version, with_pin, write_route
from tasks.promotion import approve, freeze
from tasks.registry import evidence_bundle, transitions
from tasks.registry.history import History
from tests.forks import ForkServer
from tests.integration.conftest import Registry

ON_BOTH_BACKINGS = True
Make = Callable[..., Registry]
ROOT = Path(__file__).resolve().parents[2]


def standing(registry: Registry) -> tuple[str | None, str | None, str | None, str, str | None]:
    live = transitions.live(registry.client, registry.params)
    return live.champion, live.previous, live.reference, live.route.answers, live.route.model_version


def kinds(registry: Registry) -> list[tuple[str, str | None]]:
    return [(e.kind, e.version) for e in transitions.history(registry.client, registry.params)]


def outside(registry: Registry) -> str | None:
    return transitions.moved_outside(registry.client, registry.params, transitions.history(registry.client, registry.params))


def test_promotion_rollback_and_history(make_registry: Make) -> None:
    registry = make_registry()
    params = registry.params
    one = registry.version(122, seed=1)
    approve.promote(params, one, "passed")
    assert standing(registry) == ("1", None, "1", "student", "1")
    two = registry.version(124, seed=2)
    approve.approve(params, "challenger", "looks better")
    assert standing(registry) == ("2", "1", "1", "student", "2")
    approve.promote(params, two, "again")
    assert len(kinds(registry)) == 2, "a second call changes nothing"
    approve.rollback(params, None, "complaints from the branch")
    assert standing(registry) == ("1", "2", "1", "student", "1")
    approve.rollback(params, "previous", "they were about something else")
    approve.set_reference(params, "2", "new baseline")
    assert standing(registry) == ("2", "1", "2", "student", "2")
    approve.reject(params, "1", "no need")
    assert kinds(registry) == [
        ("promote", "1"),
        ("promote", "2"),
        ("rollback", "1"),
        ("rollback", "2"),
        ("reference", "2"),
        ("reject", "1"),
    ]
    last = transitions.history(registry.client, params)[2]
    assert last.reason == "complaints from the branch" and last.by == current_user() and last.champion == "1"
    assert outside(registry) is None


def test_reasons_of_any_length_and_any_characters_can_be_read_again(make_registry: Make) -> None:
    """A database has columns of a certain width, and refuses what is no letter; MLflow cuts the tags of runs, also in the middle of JSON."""
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "é" * 4000)
    assert "é" * 3000 in transitions.history(registry.client, params)[0].reason
    approve.approve(params, registry.version(124, seed=2), '"\n' * 5000)
    freeze.freeze(params, "2999-12-31", "ü" * 9000)
    assert "ü" * 500 in freeze.frozen(registry.client, params).sentence  # type: ignore[union-attr]
    approve.rollback(params, None, "no letter: \x00")
    assert [event.kind for event in transitions.history(registry.client, params)] == ["promote", "promote", "freeze", "rollback"]
    assert standing(registry)[:2] == ("1", "2") and outside(registry) is None


def test_an_operators_pin_survives_a_promotion(make_registry: Make) -> None:
    registry = make_registry()
    version = registry.version(122, seed=1)
    write_route(transitions.FLAGS, with_pin(read_route(transitions.FLAGS), "teacher", "incident"))
    approve.promote(registry.params, version, "passed")
    route = read_route(transitions.FLAGS)
    assert (route.pin, route.answers, route.mode, route.model_version) == ("teacher", "teacher", "student", "1")


def test_what_may_not_be_promoted(make_registry: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = make_registry(approval="person", two_people=True)
    params = registry.params
    monkeypatch.setenv("REDISTILL_USER", "nightly")
    weak = registry.version(60, seed=1)
    monkeypatch.setenv("REDISTILL_USER", "grace")
    with pytest.raises(RegistryError, match="version 1 is on hold and cannot be promoted"):
        approve.approve(params, weak, "please")
    monkeypatch.setenv("REDISTILL_USER", "ada")
    good = registry.version(122, seed=2, started_by="ada")
    with pytest.raises(ConfigError, match="ada started the cycle of version 2, so another person must approve it"):
        approve.approve(params, good, "mine")
    monkeypatch.setenv("REDISTILL_USER", " ADA ")
    with pytest.raises(ConfigError, match="ADA started the cycle of version 2, so another person must approve it"):
        approve.approve(params, good, "the same person in another spelling")
    with pytest.raises(ConfigError, match="give a reason"):
        approve.approve(params, good, "  ")
    with pytest.raises(RegistryError, match=r"9: .* has no such version or alias; its versions are 2, 1"):
        approve.approve(params, "9", "x")
    with pytest.raises(RegistryError, match="no previous champion"):
        approve.rollback(params, None, "x")
    assert standing(registry)[0] is None and kinds(registry) == []
    monkeypatch.setenv("REDISTILL_USER", "grace")
    approve.approve(params, f"{params.data.name}/{good}", "checked the report")
    assert standing(registry)[0] == "2" and transitions.history(registry.client, params)[-1].by == "grace"


def second_promotion(registry: Registry) -> tuple[str, transitions.Live, transitions.Live]:
    """Version 1 is live; version 2, and the states before and after its promotion."""
    approve.promote(registry.params, registry.version(122, seed=1), "first")
    two = registry.version(124, seed=2)
    before = transitions.live(registry.client, registry.params)
    return two, before, replace(before, champion=two, previous="1", route=to_version(before.route, two, None, "second"))


def _forged(run: Path) -> None:
    file = run / "evidence" / "judgement.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"verdict": "hold"', '"verdict": "promote"'), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_forged, "signature is not valid"),
        (lambda run: (run / "bundle.sig").unlink(), "its bundle cannot be loaded"),
        (lambda run: shutil.rmtree(run / "evidence"), "its bundle cannot be loaded"),
        (lambda run: (run / "evidence" / "extra.json").write_text("{}", encoding="utf-8"), "signature is not valid"),
    ],
    ids=["forged", "no signature", "no evidence", "added"],
)
def test_a_touched_bundle_is_never_promoted(make_registry: Make, damage: Callable[[Path], object], says: str) -> None:
    """A forger who also renews the digest in the tags still has no key."""
    registry = make_registry()
    version = registry.version(60 if damage is _forged else 122, seed=1)
    with registry.files_of_run(version) as run:
        damage(run)
        digest = evidence_bundle.tree_digest(run / "evidence") if (run / "evidence").is_dir() else None
    if digest is not None:
        registry.client.set_model_version_tag(registry.params.data.name, version, mlflow_names.TAG_EVIDENCE, digest)
    for act in (approve.promote, approve.approve):
        with pytest.raises(RegistryError, match=says):
            act(registry.params, version, "x")
    assert standing(registry)[0] is None and kinds(registry) == []


def test_a_live_version_whose_bundle_is_touched_holds_no_longer(make_registry: Make) -> None:
    registry = make_registry()
    approve.promote(registry.params, registry.version(122, seed=1), "passed")
    from tasks.promotion.retest_champion import retest_champion

    assert retest_champion(registry.params, History()).trusted  # type: ignore[union-attr]
    with registry.files_of_run("1") as run:
        (run / "evidence" / "extra.json").write_text("{}", encoding="utf-8")
    check = retest_champion(registry.params, History())
    assert check is not None and not check.trusted and "signature is not valid" in check.sentence


def test_only_who_was_champion_can_come_back(make_registry: Make) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "passed")
    held = registry.version(60, seed=2)
    for act in (approve.rollback, approve.set_reference):
        with pytest.raises(RegistryError, match="version 2 was never champion"):
            act(params, held, "x")
    assert standing(registry)[0] == "1"


def test_what_a_person_took_back_does_not_return_by_night(make_registry: Make) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "first")
    approve.promote(params, registry.version(124, seed=2), "second")
    assert approve.blocked_by(params, "2", True, History()) is None
    approve.rollback(params, None, "complaints")
    assert "version 2 was rolled back by" in str(approve.blocked_by(params, "2", True, History()))
    assert approve.blocked_by(params, "1", True, History()) is None
    approve.promote(params, "2", "they were about something else")
    assert approve.blocked_by(params, "2", True, History()) is None
    three = registry.version(123, seed=3)
    approve.reject(params, three, "not now")
    assert "version 3 was rejected by" in str(approve.blocked_by(params, three, True, History()))
    assert approve.blocked_by(params, three, False, History()) is None


def test_gate_leaves_the_training_bundle_where_it_is(make_registry: Make) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "first")
    approve.promote(params, registry.version(124, seed=2), "second")
    before = evidence_bundle.verified(registry.client, params, "1")
    from tasks.promotion.judge_version import gate

    version, judgement = gate(params, "previous")
    assert version == "1" and not judgement.repeated, "another champion is another question"
    again = evidence_bundle.verified(registry.client, params, "1")
    assert tree_digest(again) == tree_digest(before) and (before / "report").is_dir()
    assert again != before, "each reader has a folder of its own: one must not remove what another one verifies"
    newest = evidence_bundle.verified(registry.client, params, "1", newest=True)
    assert tree_digest(newest) != tree_digest(before) and not (newest / "report").is_dir()


def test_a_pin_set_during_a_crash_stays(make_registry: Make) -> None:
    registry = make_registry()
    params = registry.params
    _, before, after = second_promotion(registry)
    plan = {
        "id": "x",
        "host": transitions._here(),
        "at": dt.datetime.now(dt.UTC).isoformat(),
        "before": asdict(before),
        "after": asdict(after),
    }
    registry.client.set_registered_model_tag(params.data.name, mlflow_names.TAG_MOVE, json.dumps(plan))
    write_route(transitions.FLAGS, with_pin(read_route(transitions.FLAGS), "teacher", "incident"))
    assert transitions.recover(registry.client, params) is not None
    assert (read_route(transitions.FLAGS).pin, read_route(transitions.FLAGS).answers) == ("teacher", "teacher")


def test_a_person_cannot_approve_what_was_judged_with_another_teacher(make_registry: Make) -> None:
    registry = make_registry(approval="person")
    version = registry.version(122, seed=1)
    file = Path("artifacts/benchmark/teacher/report.json")
    file.write_text(file.read_text(encoding="utf-8").replace('"model_digest": "teacher"', '"model_digest": "teacher-2"'), encoding="utf-8")
    with pytest.raises(RegistryError, match=r"version 1 was judged with another teacher .*`redistill gate 1`"):
        approve.approve(registry.params, version, "looks fine")
    assert standing(registry)[0] is None


def test_a_cycle_does_not_undo_what_a_person_moved_meanwhile(make_registry: Make) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "first")
    found = transitions.live(registry.client, params)
    approve.promote(params, registry.version(124, seed=2), "by a person, while the cycle trained")
    planned = to_version(found.route, "1", None, "champion version 1 holds; the challenger did not pass")
    assert transitions.apply_system_route(registry.client, params, "1", planned)[1].model_version == "2"
    assert standing(registry) == ("2", "1", "1", "student", "2")
    pinned = with_pin(read_route(transitions.FLAGS), "teacher", "incident")
    write_route(transitions.FLAGS, pinned)
    _, told = transitions.apply_system_route(registry.client, params, "2", to_teacher(found.route, "no longer holds"))
    assert (told.pin, told.mode, read_route(transitions.FLAGS)) == ("teacher", "teacher", told)


def test_swapped_weights_are_never_promoted(make_registry: Make) -> None:
    registry = make_registry()
    version = registry.version(122, seed=1)
    with registry.files_of_version(version) as folder:
        weights = next(folder.rglob("model.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(RegistryError, match="its weights do not have the registered digest"):
        approve.promote(registry.params, version, "x")


class Failing:
    """The real client, until its n-th write: MLflow out of reach in the middle of a promotion."""

    def __init__(self, client: Any, after: int, forever: bool) -> None:
        self._client, self._left, self._forever = client, after, forever

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not name.startswith(("set_", "delete_", "create_")):
            return found

        def write(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0 or (self._forever and self._left < 0):
                raise MlflowException("connection refused")
            return found(*args, **kwargs)

        return write


@pytest.mark.parametrize("forever", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("step", range(1, 8))
def test_a_registry_that_fails_leaves_nothing_half_promoted(make_registry: Make, step: int, forever: bool) -> None:
    """Whichever write fails: an error and everything as before, or everything done. Then it succeeds."""
    registry = make_registry()
    params = registry.params
    two, before, after = second_promotion(registry)
    failed = None
    try:
        transitions.move(Failing(registry.client, step, forever), params, "promote", two, "second", before, after)
    except (RegistryError, MlflowException) as error:
        failed = error
    if failed is not None:
        transitions.recover(registry.client, params)
    now = transitions.live(registry.client, params)
    assert now in (before, after), f"half-promoted after {failed}"
    committed = ("promote", two) in kinds(registry)
    assert (now == after) == committed
    if not committed:
        transitions.move(registry.client, params, "promote", two, "second", before, after)
    assert standing(registry) == (two, "1", "1", "student", two)
    assert kinds(registry).count(("promote", two)) == 1


CRASH = """
import os, signal, sys
from dataclasses import asdict, replace
from redistill.params import load_params
from redistill.runtime.identity import current_user
from redistill.serving.route_flag import to_teacher, to_version
from tasks.registry import runs_and_versions as registry, transitions as moves
params = load_params()
client = registry.connect(params)
step, writes = int(sys.argv[1]), 0
class Dying:
    def __getattr__(self, name):
        found = getattr(client, name)
        if not name.startswith(("set_", "delete_", "create_")):
            return found
        def write(*a, **k):
            global writes
            writes += 1
            if writes == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return found(*a, **k)
        return write
before = moves.live(client, params)
after = replace(before, champion="2", previous="1", route=to_version(before.route, "2", None, "second"))
moves.move(Dying(), params, "promote", "2", "second", before, after)
"""


@pytest.mark.parametrize("step", [2, 3, 4, 5, 6])
def test_a_killed_promotion_is_finished_or_undone_by_the_next_command(make_registry: Make, fork_server: ForkServer, step: int) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "first")
    two = registry.version(124, seed=2)
    Path("crash.py").write_text(CRASH, encoding="utf-8")
    done = fork_server.run("crash", str(step), env={**os.environ, "PYTHONPATH": str(ROOT)}, server=fork_server.commands)
    assert done.returncode == 128 + signal.SIGKILL, done.stderr[-2000:]
    assert mlflow_names.TAG_MOVE in registry.client.get_registered_model(params.data.name).tags
    committed = ("promote", two) in kinds(registry)
    approve.reject(params, "1", "any command at all")
    assert standing(registry) == ((two, "1", "1", "student", two) if committed else ("1", None, "1", "student", "1"))
    assert mlflow_names.TAG_MOVE not in registry.client.get_registered_model(params.data.name).tags
    approve.promote(params, two, "again")
    assert standing(registry) == (two, "1", "1", "student", two)


def test_two_promotions_at_once(make_registry: Make) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "first")
    versions = [registry.version(123, seed=2), registry.version(124, seed=3)]

    def ask(version: str) -> str | None:
        try:
            approve.promote(params, version, f"rival {version}")
        except RegistryError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(ask, versions))
    events = [e for e in transitions.history(registry.client, params) if e.reason.startswith("rival")]
    assert len(events) == said.count(None) >= 1
    assert all("another process changed it" in s or "another process has changed the route" in s for s in said if s)
    last = events[-1]
    assert standing(registry)[:2] == (last.champion, last.previous) and standing(registry)[4] == last.version


def test_a_move_under_way_elsewhere_is_left_alone_until_it_is_old(make_registry: Make) -> None:
    registry = make_registry()
    params = registry.params
    version = registry.version(122, seed=1)
    live = transitions.live(registry.client, params)
    plan = {"id": "x", "host": "elsewhere", "at": dt.datetime.now(dt.UTC).isoformat(), "before": asdict(live), "after": asdict(live)}
    registry.client.set_registered_model_tag(params.data.name, mlflow_names.TAG_MOVE, json.dumps(plan))
    with pytest.raises(RegistryError, match="running on elsewhere"):
        approve.promote(params, version, "x")
    plan["at"] = "2026-01-01T00:00:00+00:00"
    registry.client.set_registered_model_tag(params.data.name, mlflow_names.TAG_MOVE, json.dumps(plan))
    approve.promote(params, version, "x")
    assert standing(registry)[0] == version


def test_a_hand_from_outside_is_noticed(make_registry: Make) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "first")
    registry.version(60, seed=2)
    registry.client.set_registered_model_alias(params.data.name, mlflow_names.CHAMPION, "2")
    said = outside(registry)
    assert said is not None and "champion is version 2, but redistill last set it to 1" in said
    from tasks.promotion.retest_champion import retest_champion

    check = retest_champion(params, History())
    assert check is not None and not check.trusted and check.sentence == said
    assert approve.blocked_by(params, "2", True, History()) == said, "a cycle does not make what was done outside its own"
    approve.rollback(params, "1", "somebody moved it")
    assert outside(registry) is None
    registry.client.delete_registered_model_alias(params.data.name, mlflow_names.REFERENCE)
    assert "alias reference is version none" in str(approve.blocked_by(params, "2", True, History()))
    again = retest_champion(params, History())
    assert again is not None and again.trusted, "the reference decides who comes next, not who answers"


def test_a_deleted_champion_holds_no_longer(make_registry: Make) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "first")
    registry.client.delete_model_version(params.data.name, "1")
    from tasks.promotion.retest_champion import retest_champion

    check = retest_champion(params, History())
    assert check is not None and not check.trusted and check.alias_version is None
    from tasks.promotion.route import fall_back_to_teacher

    assert fall_back_to_teacher(params, check).answers == "teacher" == read_route(transitions.FLAGS).answers
    assert kinds(registry)[-1][0] == "distrust"
    assert registry.version(122, seed=5), "the next cycle goes on"
