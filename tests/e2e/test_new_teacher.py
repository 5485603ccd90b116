"""A new teacher that is worse is refused: lock, weights, route and students stay, and a person may still accept it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from redistill.io.digests import tree_digest
from tests.cycles import Command, FirstCycle
from tests.tiny_project import write_params

pytestmark = pytest.mark.cycles

WORSE = {"tune_teacher__epochs": 1, "tune_teacher__learning_rate": 1e-5}
"""The same raw teacher, hardly tuned: it completes nothing right."""

MOVED = {"tune_teacher__learning_rate": 0.01003, "promote__new_teacher_margin": 0.9}
"""The same training with a learning rate that differs in the fourth digit."""


@pytest.fixture(scope="module")
def project(first_cycle: FirstCycle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(first_cycle.finished, tmp_path_factory.mktemp("teacher") / "project", symlinks=True))


def state(project: Path) -> dict[str, Any]:
    route = json.loads((project / "artifacts/route/flags.json").read_text(encoding="utf-8"))
    folders = ("artifacts/teacher", "artifacts/benchmark/teacher", "artifacts/students/kd", "artifacts/completions")
    return {
        "lock": json.loads((project / "teacher.lock.json").read_text(encoding="utf-8")),
        "route": route["flags"]["redistill-route"]["defaultVariant"],
        **{folder: tree_digest(project / folder) for folder in folders},
    }


def test_a_teacher_that_hardly_moved_costs_only_its_own_benchmark(project: Path, redistill: Command) -> None:
    before = state(project)
    # With 65 held-out rows a loss of 5 points could not be ruled out.
    write_params(project, **MOVED)
    ran = redistill(project, "run", "--json", "--reason", "new teacher")
    assert ran.code == 0, ran.stderr[-3000:]
    trained = {stage for stage, what in ran.result["stages"].items() if what == "ran" and stage.startswith("finetune")}
    assert not trained and "asked the teacher 0 rows" in ran.stdout + ran.stderr
    after = state(project)
    assert after["lock"]["current"] != before["lock"]["current"]
    assert {s: d for s, d in after["lock"]["answers_from"].items() if s != "default"} == dict.fromkeys(
        ("app", "e-mail", "phone"), before["lock"]["current"]["digest"]
    )
    assert all(after[same] == before[same] for same in ("artifacts/students/kd", "artifacts/completions"))
    use = json.loads((project / "artifacts/report/report.json").read_text(encoding="utf-8"))["teacher_use"]
    assert (use["asked_rows"], use["stored_rows"]) == (0, 165) and use["earlier_rows"] == 165 and use["earlier_tokens"] > 165


def test_a_worse_teacher_is_refused_and_nothing_that_is_live_changes(project: Path, redistill: Command) -> None:
    before = state(project)
    write_params(project, **WORSE)
    refused = redistill(project, "run", "--json", "--reason", "new teacher")
    assert refused.code == 0, refused.stderr[-3000:]
    [reason] = refused.result["reasons"]
    assert refused.result["verdict"] == "hold" and "refused, new teacher 0.0 % exact match against the previous teacher's" in reason
    assert set(refused.result["stages"]) == {"prepare", "tune_teacher", "init_student", "benchmark@teacher", "heldout@teacher"}, (
        "nothing is asked or trained"
    )
    assert state(project) == before and not (project / ".redistill/teacher-before").exists()


def test_a_second_night_says_it_again_but_writes_it_once(project: Path, redistill: Command) -> None:
    again = redistill(project, "run", "--json")
    assert again.code == 0 and "refused" in again.result["reasons"][0], again.stderr[-3000:]
    assert again.result["stages"]["tune_teacher"] == "restored", "it is not trained a second time"
    events = redistill(project, "history", "--json").result["events"]
    assert [e["kind"] for e in events].count("teacher-refused") == 1


def test_a_cycle_killed_in_the_trial_leaves_the_previous_teacher(project: Path, redistill: Command) -> None:
    """What such a cycle leaves: the new teacher's files in place, and the state before in its folder."""
    before = state(project)
    kept = project / ".redistill/teacher-before"
    kept.mkdir()
    for file in ("teacher.lock.json", "dvc.lock"):
        shutil.copy(project / file, kept)
    shutil.copytree(project / "artifacts/benchmark/teacher", kept / "benchmark")
    shutil.rmtree(project / "artifacts/teacher")
    lock = {**before["lock"], "current": {**before["lock"]["current"], "digest": "0" * 64}}
    (project / "teacher.lock.json").write_text(json.dumps(lock), encoding="utf-8")
    assert redistill(project, "run", "--json").code == 0
    assert state(project) == before


def test_a_person_may_accept_it(project: Path, redistill: Command) -> None:
    assert redistill(project, "lock", "--accept-teacher").code == 2
    accepted = redistill(project, "lock", "--accept-teacher", "--reason", "we want to see it", "--json")
    assert accepted.code == 0, accepted.stderr
    before = state(project)
    ran = redistill(project, "run", "--json")
    assert ran.code in (0, 3), ran.stderr[-3000:]  # such a teacher's completions may all be dropped, which is an error of the data
    assert state(project)["lock"]["current"] != before["lock"]["current"]
    events = redistill(project, "history", "--json").result["events"]
    assert any(e["kind"] == "teacher-accepted" and "we want to see it" in e["reason"] for e in events)
