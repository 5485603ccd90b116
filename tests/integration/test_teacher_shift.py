"""After a change of local weights: a slice that did not move stays with its completions and soft targets, byte by byte where nothing moved."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from redistill.distillation.soft_targets.scoring import Sequenced, score_sequences
from redistill.distillation.soft_targets.shards import SoftTargetFiles, write_soft_targets
from redistill.distillation.types import TrainingRow
from redistill.errors import DataError
from redistill.io.digests import tree_digest
from redistill.io.json import read_json, write_json
from redistill.io.parquet import read_records, write_records
from redistill.models.checkpoints import load_model
from redistill.operations.policy import plan
from redistill.params import Params, load_params
from redistill.runtime.environment import child_environment
from redistill.teacher.fingerprint import fingerprint
from tasks.locking import earlier_targets, reasking, shift_of_weights, teacher_lock
from tasks.locking.locked_teacher import TEACHER, read_lock
from tasks.paths import LOCK
from tasks.stages.score import score
from tests.cycles import FirstCycle
from tests.tiny import make_tiny_model
from tests.tiny_project import write_params

TARGETS = earlier_targets.SCORED / earlier_targets.TARGETS


@pytest.fixture
def params(first_cycle: FirstCycle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    project = Path(shutil.copytree(first_cycle.template, tmp_path / "project", symlinks=True))
    monkeypatch.chdir(project)
    return load_params()


def run_module(module: str, arguments: list[str]) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, env=child_environment(), check=False)
    return done.returncode, done.stderr.splitlines()


def rows() -> list[TrainingRow]:
    return read_records(Path("artifacts/validated/kept.parquet"), TrainingRow)


def new_teacher(keep: list[str]) -> str:
    """A changed teacher is locked, and some slices stay with the one before; returns the digest of that one."""
    old = read_lock().fingerprint.digest
    shutil.rmtree(TEACHER)
    make_tiny_model(TEACHER, seed=7)
    lock = read_json(LOCK)
    now = fingerprint(TEACHER, lock["current"]["name"])
    current = {"name": now.name, "digest": now.digest, "parts": now.parts}
    write_json(LOCK, {**lock, "current": current, "answers_from": {"default": now.digest, **dict.fromkeys(keep, old)}})
    return old


def test_only_a_slice_that_moved_is_asked_again(params: Params) -> None:
    """The old teacher's soft targets of one slice are replaced by those of another model: there, the present weights say something else."""
    other = load_model(make_tiny_model(Path("other"), seed=3))
    stored, lock = SoftTargetFiles(TARGETS), read_lock()
    moved = [Sequenced(row.key, row.token_ids) for row in rows() if row.slice == "phone"]
    stay = [stored[row.key] for row in rows() if row.slice != "phone"]
    targets = [*stay, *score_sequences(other, moved, params.score.top_k, params.score.temperatures, 2048)]
    write_soft_targets(TARGETS, targets, lock.tokenizer_digest or "", 400)

    shifts = shift_of_weights.measure_in_process(read_json(LOCK)["answers_from"], run_module)
    chosen = plan(shifts, ["app", "e-mail", "phone"], 1, params.schedule)
    assert (chosen.action, chosen.kept) == ("slices", ("app", "e-mail")), chosen.reasons
    by_slice = {shift.slice: shift for shift in shifts}
    assert by_slice["app"].rows == params.schedule.reask_rows and by_slice["app"].interval.high < 0.001
    assert by_slice["phone"].interval.low > 0.1


def test_a_slice_of_few_rows_is_not_measured(params: Params) -> None:
    kept = [row for row in rows() if row.slice != "phone"] + [row for row in rows() if row.slice == "phone"][:5]
    write_records(Path("artifacts/validated/kept.parquet"), TrainingRow, kept)
    assert {shift.slice for shift in shift_of_weights.measure(params, TEACHER, read_json(LOCK)["answers_from"])} == {"app", "e-mail"}


def test_where_nothing_moved_the_soft_targets_are_the_same_file(params: Params) -> None:
    before = tree_digest(earlier_targets.SCORED)
    old = read_lock().fingerprint.digest
    earlier_targets.keep(old)
    new_teacher(["app", "e-mail", "phone"])
    score(params.score)
    assert tree_digest(earlier_targets.SCORED) == before


def test_rows_of_two_teachers_keep_their_own_soft_targets(params: Params) -> None:
    stored = SoftTargetFiles(TARGETS)
    then = {row.key: stored[row.key] for row in rows()}
    earlier_targets.keep(read_lock().fingerprint.digest)
    old = new_teacher(["app"])
    now = read_lock().fingerprint.digest
    kept = [row if row.slice == "app" else replace(row, teacher=now) for row in rows()]
    write_records(Path("artifacts/validated/kept.parquet"), TrainingRow, kept)
    score(params.score)
    scored = SoftTargetFiles(TARGETS)
    assert {key.teacher for key in scored} == {old, now} and len(scored) == len(kept)
    for row in kept:
        same = scored[row.key].top_ids_TK.tolist() == (then[row.key].top_ids_TK.tolist() if row.key in then else None)
        assert same == (row.slice == "app"), "the old teacher's rows have the old teacher's probabilities, and the others the new one's"


@pytest.mark.parametrize("fault", ["nothing is kept", "other settings"])
def test_what_cannot_be_had_any_more_is_one_line_that_says_what_to_do(params: Params, fault: str) -> None:
    if fault == "other settings":
        earlier_targets.keep(read_lock().fingerprint.digest)
        write_params(Path(), score__temperatures=[1.0, 2.0])
    new_teacher(["app", "e-mail", "phone"])
    with pytest.raises(DataError, match=r"redistill lock --ask-again"):
        score(load_params().score)
    assert not list(Path("artifacts").glob("**/*.tmp*"))
    reasking.ask_everything()
    lock = json.loads(LOCK.read_text(encoding="utf-8"))
    assert lock["answers_from"] == {"default": lock["current"]["digest"]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"finetune__arms__kd__method": "online"}, "arm kd learns from the weights of the present teacher"),
        ({"score__top_k": 0, "finetune__arms": {"gold": {"rows": "gold"}, "kd": {"rows": "gold_and_teacher"}}}, "score.top_k is 0"),
        ({}, "another chat template"),
    ],
)
def test_where_the_earlier_teacher_cannot_stay_everything_is_asked_and_it_says_why(
    params: Params, changes: dict[str, object], reason: str
) -> None:
    write_params(Path(), **changes)
    before, now = read_json(LOCK), read_lock().fingerprint
    if not changes:
        before["current"]["parts"]["chat_template"] = "another"
    chosen = reasking.choose_reasking(load_params(), before, now, run_module)
    assert chosen.action == "all" and reason in chosen.reasons[0]


def test_rows_of_a_teacher_that_the_lock_does_not_name_are_not_measured(params: Params) -> None:
    """What a cycle leaves that was interrupted between the lock of a teacher and its completions."""
    assert shift_of_weights.measure(params, TEACHER, {"default": "b" * 64}) == []


def test_a_slice_called_default_is_asked_again(params: Params) -> None:
    """In the lock, that name means all slices that are not named."""
    kept = [replace(row, slice="default") if row.slice == "app" else row for row in rows()]
    write_records(Path("artifacts/validated/kept.parquet"), TrainingRow, kept)
    chosen = reasking.choose_reasking(params, read_json(LOCK), read_lock().fingerprint, run_module)
    assert set(chosen.kept) == {"e-mail", "phone"}
    assert read_json(LOCK)["answers_from"]["default"] == read_lock().fingerprint.digest


def test_reproduce_brings_only_what_cannot_be_made_again(params: Params, tmp_path: Path) -> None:
    """Completions of an earlier teacher come from the store. The present teacher, whose weights are here, completes its rows again."""
    from redistill.teacher.completion_store import CompletionStore
    from tasks.reporting.reproduce import _bring_completions

    with_earlier = {**read_json(LOCK), "answers_from": {"default": read_lock().fingerprint.digest, "app": "a" * 64}}
    with_earlier["current"]["digest"] = "present"
    store = CompletionStore(Path(".redistill/store/completions.sqlite"))
    all_of_them = len(store)
    store.close()
    earlier_targets.keep("a" * 64)
    for target, lock, stay in (("one", read_json(LOCK), None), ("two", with_earlier, all_of_them)):
        (tmp_path / target / ".redistill").mkdir(parents=True)
        _bring_completions(params, lock, tmp_path / target)
        copied = tmp_path / target / ".redistill/store"
        assert copied.is_dir() == (stay is not None)
        if stay is not None:
            assert (copied / "soft_targets" / ("a" * 64) / "summary.json").is_file()
    again = tmp_path / "three"
    (again / ".redistill").mkdir(parents=True)
    _bring_completions(params, {**with_earlier, "current": read_json(LOCK)["current"]}, again)
    store = CompletionStore(again / ".redistill/store/completions.sqlite")
    assert len(store) < all_of_them, "those of the present teacher are gone"
    store.close()


def test_a_comparison_that_fails_asks_everything_and_fails_no_night(params: Params) -> None:
    for shard in TARGETS.glob("shard-*.parquet"):
        shard.write_bytes(b"damaged")
    chosen = reasking.choose_reasking(params, read_json(LOCK), read_lock().fingerprint, run_module)
    assert chosen.action == "all" and "could not be compared" in chosen.reasons[0] and "is not a Parquet file" in chosen.reasons[0]


def test_an_arm_that_starts_to_need_the_weights_asks_everything(params: Params) -> None:
    lock = read_json(LOCK)
    write_json(LOCK, {**lock, "answers_from": {**lock["answers_from"], "app": "a" * 64}, "changes": 1})
    teacher_lock.lock_teacher(params)
    assert read_json(LOCK)["answers_from"]["app"] == "a" * 64, "as long as the methods are the same"
    write_params(Path(), finetune__method="online")
    teacher_lock.lock_teacher(load_params())
    now = read_json(LOCK)
    assert now["answers_from"] == {"default": now["current"]["digest"]} and now["weights_in_training"] == now["current"]["digest"]
