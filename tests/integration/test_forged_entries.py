"""Whoever can write to MLflow can write entries of the history and the ledger, plans and tags, but cannot make redistill believe them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from redistill.errors import ConfigError, RegistryError
from redistill.promotion.alpha_spending import entry_digest
from redistill.promotion.types import Look
from redistill.provenance import keys, mlflow_names
from redistill.serving.route_flag import read_route, to_version
from tasks.paths import STATE
from tasks.promotion import approve
from tasks.promotion.judge import judge_arm
from tasks.promotion.retest_champion import verify_champion
from tasks.registry import key_rotation, look_ledger, signed_entries, transitions
from tasks.registry.history import Event, History
from tests.integration.conftest import Registry

ON_BOTH_BACKINGS = True
Make = Callable[..., Registry]


@pytest.fixture(autouse=True)
def _own_keys() -> Any:
    """The project's keys, as they were before the test."""
    signed_entries._SAID.clear()
    kept = Path("kept-keys")
    shutil.rmtree(kept, ignore_errors=True)
    yield
    shutil.rmtree(kept, ignore_errors=True)


def runs(registry: Registry, experiment_name: str) -> list[Any]:
    experiment = registry.client.get_experiment_by_name(experiment_name)
    return list(registry.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def looks(registry: Registry) -> list[Any]:
    return runs(registry, mlflow_names.looks_experiment(registry.params.data.name))


def lines(registry: Registry) -> list[Any]:
    return runs(registry, mlflow_names.history_experiment(registry.params.data.name))


def written(registry: Registry, event: Event, signature: str | None = None) -> None:
    """A line of the history, written past redistill."""
    experiment = registry.client.get_experiment_by_name(mlflow_names.history_experiment(registry.params.data.name))
    tags = {mlflow_names.TAG_KIND: "event", mlflow_names.TAG_EVENT: json.dumps(asdict(event))}
    if signature is not None:
        tags[mlflow_names.TAG_SIGNATURE] = signature
    registry.client.create_run(experiment.experiment_id, tags=tags)


def unsigned(registry: Registry, of: list[Any]) -> None:
    """Entries as an earlier redistill wrote them."""
    for run in of:
        registry.client.delete_tag(run.info.run_id, mlflow_names.TAG_SIGNATURE)


def rewritten(registry: Registry, change: Callable[[list[Look]], list[Look]], *, signatures: bool) -> None:
    """The ledger with other entries, a chain that fits, and the head that belongs to it."""
    entries = looks(registry)
    changed = change([Look(**json.loads(run.data.tags[mlflow_names.TAG_LOOK])) for run in entries])
    previous = ""
    for run, look in zip(entries, changed, strict=True):
        look = replace(look, previous=previous)
        previous = entry_digest(look)
        registry.client.set_tag(run.info.run_id, mlflow_names.TAG_LOOK, json.dumps(dataclasses.asdict(look)))
        if not signatures and mlflow_names.TAG_SIGNATURE in run.data.tags:
            registry.client.delete_tag(run.info.run_id, mlflow_names.TAG_SIGNATURE)
    registry.client.set_registered_model_tag(registry.params.data.name, mlflow_names.looks_head(changed[0].heldout), previous)


def judged(registry: Registry) -> Any:
    return judge_arm(registry.client, registry.params, transitions.history(registry.client, registry.params))


def test_a_forged_line_is_left_out_and_said(make_registry: Make, capsys: pytest.CaptureFixture[str]) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "passed")
    approve.reject(params, registry.version(124, seed=2), "not this one")
    forged = Event("forged", "promote", "2", "2099-01-01T00:00:00+00:00", "mallory", "passed", "2", "1", "student", sequence=99)
    written(registry, forged)
    stranger = keys.sign_text(f"event\n{params.data.name}\n{json.dumps(asdict(forged))}", keys.signing_key(Path("stranger")))
    written(registry, forged, stranger)
    other_list = keys.sign_text(f"look\n{params.data.name}\n{json.dumps(asdict(forged))}", keys.signing_key(STATE))
    written(registry, forged, other_list)
    capsys.readouterr()
    assert [(e.kind, e.version) for e in transitions.history(registry.client, params)] == [("promote", "1"), ("reject", "2")]
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "history: 3 lines left out, because no key that this project trusts signed them" in said
    assert "was rejected by" in str(approve.blocked_by(params, "2", True, History())), "a forged promotion does not end a rejection"


def test_forged_lines_do_not_change_the_order_or_hide_what_follows(make_registry: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """Sixty lines that claim to be of the year 2100, with any number, and some that cannot be read."""
    registry = make_registry()
    params, client = registry.params, registry.client
    approve.promote(params, registry.version(122, seed=1), "passed")
    approve.reject(params, registry.version(124, seed=2), "not this one")
    name = mlflow_names.history_experiment(params.data.name)
    experiment_id = client.get_experiment_by_name(name).experiment_id
    for number in range(60):
        text = (
            "no json" if number % 2 else json.dumps(asdict(Event(str(number), "hold", "1", "2100", "mallory", "x", "1", None, "student")))
        )
        tags = {mlflow_names.TAG_KIND: "event", **({} if number == 59 else {mlflow_names.TAG_EVENT: text})}
        client.create_run(experiment_id, start_time=4_102_444_800_000 + number, tags=tags)
    cycle = History()
    assert [e.kind for e in cycle.events(client, params)] == ["promote", "reject"]
    approve.promote(params, "2", "this one after all")
    assert [(e.kind, e.sequence) for e in cycle.events(client, params)] == [("promote", 1), ("reject", 2), ("promote", 3)]
    assert "60 lines left out" in capsys.readouterr().out


def test_a_history_of_before_is_pinned_by_its_first_signed_line(make_registry: Make, capsys: pytest.CaptureFixture[str]) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "passed")
    approve.reject(params, registry.version(124, seed=2), "not this one")
    unsigned(registry, lines(registry))
    assert len(transitions.history(registry.client, params)) == 2, "read as it is"
    capsys.readouterr()
    approve.promote(params, "2", "this one after all")
    assert capsys.readouterr().out.count("history: lines are signed from now on; the first signed line pins the 2 before it") == 1
    assert [e.kind for e in transitions.history(registry.client, params)] == ["promote", "reject", "promote"]
    assert "\n" not in capsys.readouterr().out
    written(registry, Event("forged", "reject", "2", "2026-01-01T00:00:00+00:00", "mallory", "as of before", "1", None, "student"))
    assert [e.kind for e in transitions.history(registry.client, params)] == ["promote", "reject", "promote"], "not one of the pinned ones"
    shutil.rmtree(STATE / "history-pins")
    assert [e.kind for e in transitions.history(registry.client, params)] == ["promote", "reject", "promote"], "the list is in MLflow too"
    capsys.readouterr()
    registry.client.delete_run(lines(registry)[1].info.run_id)
    transitions.history(registry.client, params)
    assert "lines that were written before lines were signed were added, changed or deleted later" in capsys.readouterr().out


def test_a_plan_is_checked_against_the_history_before_it_is_obeyed(make_registry: Make) -> None:
    registry = make_registry()
    params, client = registry.params, registry.client
    approve.promote(params, registry.version(122, seed=1), "passed")
    held, now = registry.version(60, seed=2), transitions.live(client, params)
    evil = replace(now, champion=held, previous="1", route=to_version(now.route, held, None, "passed"))
    past = "2026-01-01T00:00:00+00:00"
    plans = {
        "undone to a version that was never promoted": {"id": "x", "at": past, "before": asdict(evil), "after": asdict(now)},
        "completed to another version than its line": {
            "id": transitions.history(client, params)[-1].id, "at": past, "before": asdict(now), "after": asdict(evil)
        },
        "another route than the champion's": {
            "id": "x", "at": past, "before": asdict(replace(now, route=evil.route)), "after": asdict(now)
        },
        "no plan at all": {"id": "x"},
        "a plan from the future": {"id": "x", "at": "2099-01-01T00:00:00+00:00", "before": asdict(evil), "after": asdict(evil)},
    }  # fmt: skip
    for name, plan in plans.items():
        host = "elsewhere" if "future" in name else transitions._here()
        client.set_registered_model_tag(params.data.name, mlflow_names.TAG_MOVE, json.dumps({"host": host, **plan}))
        said = transitions.recover(client, params)
        assert said is not None and "was removed and not obeyed" in said, name
        assert transitions.live(client, params) == now and read_route(transitions.FLAGS).model_version == "1", name
        assert mlflow_names.TAG_MOVE not in client.get_registered_model(params.data.name).tags
    client.set_registered_model_tag(params.data.name, mlflow_names.TAG_MOVE, "no json")
    assert "cannot be read" in str(transitions.recover(client, params))
    honest = {"id": "x", "host": transitions._here(), "at": past, "before": asdict(now), "after": asdict(evil)}
    client.set_registered_model_alias(params.data.name, mlflow_names.CHAMPION, held)
    client.set_registered_model_tag(params.data.name, mlflow_names.TAG_MOVE, json.dumps(honest))
    assert "was undone; the champion is version 1" in str(transitions.recover(client, params))
    assert transitions.live(client, params).champion == "1"


def test_a_rewritten_ledger_stops_the_decisions(make_registry: Make) -> None:
    registry = make_registry()
    for seed in (1, 2, 3):
        registry.version(60, seed=seed)
    assert judged(registry).decision.level == pytest.approx(0.00625)

    def generous(ledger: list[Look]) -> list[Look]:
        return [replace(look, left=0.05, had=0.05, spent=0.0, level=0.0) for look in ledger]

    rewritten(registry, generous, signatures=True)
    with pytest.raises(RegistryError, match="ledger of looks .*was altered"):
        judged(registry)
    rewritten(registry, generous, signatures=False)
    with pytest.raises(RegistryError, match="ledger of looks was altered"):
        judged(registry)  # This machine knows the last entry that it wrote.
    shutil.rmtree(STATE / "heldout-looks")  # Another machine, which has written nothing yet.
    with pytest.raises(RegistryError, match="was altered: look 1 was made at level 0, which is not one part in so many"):
        judged(registry)
    rewritten(registry, lambda ledger: [replace(look, had=0.05, level=0.025, left=0.05) for look in ledger], signatures=False)
    with pytest.raises(RegistryError, match="was altered: look 1 leaves 0.05 of alpha, which does not follow from its result"):
        judged(registry)
    rewritten(registry, lambda ledger: [replace(look, had=0.05, level=0.025, left=0.025) for look in ledger], signatures=False)
    with pytest.raises(RegistryError, match="was altered: look 2 starts with 0.05 of alpha, but only 0.025 was left"):
        judged(registry)


def test_the_end_of_the_ledger_is_not_deleted_unseen(make_registry: Make) -> None:
    registry = make_registry()
    for seed in (1, 2):
        registry.version(60, seed=seed)
    first, last = looks(registry)
    registry.client.delete_run(last.info.run_id)
    look = Look(**json.loads(first.data.tags[mlflow_names.TAG_LOOK]))
    registry.client.set_registered_model_tag(registry.params.data.name, mlflow_names.looks_head(look.heldout), entry_digest(look))
    with pytest.raises(RegistryError, match="last recorded entry was changed or deleted"):
        judged(registry)


def test_a_ledger_of_before_is_pinned_and_an_unsigned_entry_after_it_refused(
    make_registry: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = make_registry()
    for seed in (1, 2):
        registry.version(60, seed=seed)
    unsigned(registry, looks(registry))
    assert judged(registry).decision.level == pytest.approx(0.0125), "read as it is"
    capsys.readouterr()
    registry.version(60, seed=3)
    assert (
        capsys.readouterr().out.count("ledger of looks: entries are signed from now on; the first signed one pins the 2 entries before it")
        == 1
    )
    assert judged(registry).decision.level == pytest.approx(0.00625)
    registry.version(60, seed=4)
    registry.client.delete_tag(looks(registry)[-1].info.run_id, mlflow_names.TAG_SIGNATURE)
    with pytest.raises(RegistryError, match="was altered at look 4: it has no signature, but entries before it have one"):
        judged(registry)


def test_what_a_stranger_says_was_learned_is_not_believed(make_registry: Make) -> None:
    """A look of a key that this project does not know uses up the level, and tells nothing."""
    registry = make_registry()
    registry.version(60, seed=1)
    evidence = judged(registry).evidence
    ids = [o.prompt_id for o in evidence.student[1]]
    history = look_ledger.History.of(registry.client, registry.params, evidence.rows, ids)
    entry = look_ledger._entry(history, registry.params, "retest", "question", history.left(registry.params.promote) * 0.7)
    own, kept = STATE / "keys", STATE / "kept-keys"
    own.rename(kept)
    try:
        look_ledger.append(registry.client, registry.params, replace(entry, finding="holds"), history)
    finally:
        shutil.rmtree(own)
        kept.rename(own)
    again = look_ledger.History.of(registry.client, registry.params, evidence.rows, ids)
    assert again.left(registry.params.promote) == pytest.approx(0.025 * 0.7)
    assert [look.kind for look in again.looks] == ["decision", "retest"] and [look.kind for look in again.related] == ["decision"]


def test_a_new_key_and_a_lost_one(make_registry: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "passed")
    with pytest.raises(ConfigError, match="give a reason"):
        key_rotation.rotate(params, " ")
    stolen = keys.signing_key(STATE).read_bytes()
    result = key_rotation.rotate(params, "a laptop was stolen")
    assert result["signatures"] >= 3, "the bundle, its line in the history and its look"
    assert [(key["id"], key["signs"]) for key in key_rotation.known(params)][:2] == [(result["key"], True), (result["previous"], False)]
    last = transitions.history(registry.client, params)[-1]
    assert (last.kind, "a laptop was stolen" in last.reason) == ("key-rotated", True)
    check = verify_champion(params, History())
    assert check is not None and check.trusted, check
    approve.promote(params, registry.version(150, seed=2), "signed by the new key")
    thief = Path("thief/keys")
    thief.mkdir(parents=True, exist_ok=True)
    (thief / "signing.pem").write_bytes(stolen)
    forged = Event("forged", "reject", "2", "2026-01-01T00:00:00+00:00", "mallory", "x", "1", None, "student", sequence=99)
    text = json.dumps(asdict(forged))
    written(registry, forged, keys.sign_text(f"event\n{params.data.name}\n{text}", keys.signing_key(Path("thief"))))
    assert [e.kind for e in transitions.history(registry.client, params)] == ["promote", "key-rotated", "promote"]

    (STATE / "keys" / "signing.pem").unlink()
    with pytest.raises(RegistryError, match="is lost"):
        approve.reject(params, "1", "x")
    key_rotation.rotate(params, "the disk failed")
    check = verify_champion(params, History())
    assert check is not None and check.trusted and len(key_rotation.known(params)) >= 3
    approve.rollback(params, "1", "still possible")
    assert transitions.live(registry.client, params).champion == "1"
