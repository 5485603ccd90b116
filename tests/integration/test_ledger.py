"""The ledger of looks on a real registry: spent once a question, used up, and noticed when somebody forgets a look."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from redistill.errors import RegistryError
from redistill.provenance import mlflow_names
from tasks.promotion import approve
from tasks.promotion.judge import judge_arm
from tasks.promotion.judgement import Judgement
from tasks.registry import look_ledger, transitions
from tests.integration.conftest import N, Registry

ON_BOTH_BACKINGS = True
Make = Callable[..., Registry]


def judge(registry: Registry) -> Judgement:
    return judge_arm(registry.client, registry.params, transitions.history(registry.client, registry.params))


def looks(registry: Registry) -> int:
    evidence = judge(registry).evidence
    return len(look_ledger.History.of(registry.client, registry.params, evidence.rows, [o.prompt_id for o in evidence.student[1]]).looks)


def test_a_question_is_asked_once_and_a_used_up_set_no_more(make_registry: Make) -> None:
    registry = make_registry(looks_per_heldout=1)
    registry.version(60, seed=1)
    first = judge(registry)
    assert first.repeated and first.decision.verdict == "hold" and len(first.looks) == 1
    assert looks(registry) == 1, "asked three times by now, but one question"
    registry.version(122, seed=3)
    used_up = judge(registry)
    assert used_up.decision.verdict == "hold" and used_up.decision.gates[0].name == "looks"
    assert "used up: after 1 look, all" in used_up.decision.reasons[0] and "replace the held-out set" in used_up.decision.reasons[0]
    assert all(g.p_value is None for g in used_up.decision.gates) and looks(registry) == 1
    stricter = replace(registry.params.promote, gates=registry.params.promote.gates[:2])
    registry.params = replace(registry.params, promote=stricter)
    assert judge(registry).decision.verdict == "hold", "other gates are another question, and there is nothing left for it"


def test_each_look_has_half_of_what_is_left(make_registry: Make) -> None:
    registry = make_registry()
    levels = []
    for seed in (1, 2, 3):
        registry.version(60, seed=seed)
        levels.append(judge(registry).decision.level)
    assert levels == pytest.approx([0.025, 0.0125, 0.00625])


def test_another_name_or_other_labels_of_the_data_give_nothing_back(make_registry: Make) -> None:
    first = make_registry()
    first.rows = tuple(f"shared-{i}" for i in range(N))
    first.version(60, seed=1)
    renamed = make_registry()
    renamed.rows = first.rows
    renamed.version(60, seed=2)
    assert judge(renamed).decision.level == pytest.approx(0.0125)
    relabelled = make_registry()
    relabelled.rows, relabelled.label = first.rows, "z"
    relabelled.version(60, seed=3)
    again = judge(relabelled)
    assert again.decision.level == pytest.approx(0.00625) and len(again.looks) == 1, "another set, with what was spent on its rows"


def test_replaced_rows_give_back_their_part(make_registry: Make) -> None:
    first = make_registry()
    first.rows = tuple(f"old-{i}" for i in range(N))
    first.version(60, seed=1)
    half = make_registry()
    half.rows = tuple(f"{'old' if i < N // 2 else 'new'}-{i}" for i in range(N))
    half.version(60, seed=2)
    assert judge(half).decision.level == pytest.approx((0.05 - 0.025 / 2) / 2)


def test_a_changed_list_of_prompts_stops_the_decisions_of_its_project_only(make_registry: Make) -> None:
    registry = make_registry()
    registry.version(60, seed=1)
    rows = judge(registry).evidence.rows
    shutil.rmtree(".redistill/heldout-ids", ignore_errors=True)
    experiment = registry.client.get_experiment_by_name(mlflow_names.looks_experiment(registry.params.data.name))
    (run,) = registry.client.search_runs([experiment.experiment_id])
    registry.client.log_text(run.info.run_id, json.dumps(["other"]), "prompt-ids.json")
    registry.rows = tuple(f"more-{i}" for i in range(N))
    with pytest.raises(RegistryError, match=f"list of prompts of held-out set {rows[:12]} is missing or was changed"):
        registry.version(60, seed=2)
    other = make_registry()
    other.version(60, seed=3)
    assert judge(other).repeated, "another project goes on"


def test_a_champion_is_judged_again_without_a_look(make_registry: Make) -> None:
    registry = make_registry()
    approve.promote(registry.params, registry.version(122, seed=1), "passed")
    again = judge(registry)
    assert again.evidence.is_champion and again.decision.verdict == "promote" and looks(registry) == 1
    assert again.decision.level == registry.params.promote.alpha_per_heldout


def test_a_forgotten_look_stops_every_decision(make_registry: Make) -> None:
    registry = make_registry()
    for seed in (1, 2, 3):
        registry.version(60, seed=seed)
    experiment = registry.client.get_experiment_by_name(mlflow_names.looks_experiment(registry.params.data.name))
    runs = registry.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    registry.client.delete_run(runs[1].info.run_id)
    with pytest.raises(RegistryError, match="was altered"):
        judge(registry)
    registry.client.restore_run(runs[1].info.run_id)
    assert looks(registry) == 3
    registry.client.delete_run(runs[2].info.run_id)
    with pytest.raises(RegistryError, match="last recorded entry was changed or deleted"):
        judge(registry)


def test_the_level_of_a_question_stays_when_the_plan_changes(make_registry: Make) -> None:
    registry = make_registry(looks_per_heldout=5)
    registry.version(60, seed=1)
    before = judge(registry).decision.level
    registry.params = replace(registry.params, promote=replace(registry.params.promote, looks_per_heldout=1))
    after = judge(registry)
    assert after.repeated and after.decision.level == before == pytest.approx(0.01)
    assert transitions.live(registry.client, registry.params).champion is None
