"""A cycle whose teacher cannot reach the gates ends before anything is asked of it or trained for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cycles import Command, FirstCycle
from tests.tiny_project import write_params

pytestmark = pytest.mark.cycles

OUT_OF_REACH: dict[str, Any] = {
    "promote__gates": ["teacher", "critical_labels"],
    "promote__critical_labels": {"card": 0.99},
}


def test_a_teacher_that_cannot_pass_ends_the_cycle_with_the_limit_and_what_to_do(
    first_cycle: FirstCycle, redistill: Command, tmp_path: Path
) -> None:
    project = Path(shutil.copytree(first_cycle.template, tmp_path / "project", symlinks=True))
    write_params(project, **OUT_OF_REACH)
    held = redistill(project, "run", "--json")
    assert held.code == 0, held.stderr[-3000:]
    assert held.result["verdict"] == "hold" and held.result["route"] == "teacher"
    assert held.result["sentence"].startswith(
        "teacher unfit, so nothing was generated or trained (promote.on_unfit_teacher): the teacher finds card in "
    )
    assert "label more held-out rows with card" in held.result["sentence"] and held.result["unfit"] == ["recall_card"]
    assert set(held.result["stages"]) == {"prepare", "tune_teacher", "init_student", "benchmark@teacher", "heldout@teacher", "fitness"}
    again = redistill(project, "run", "--json")
    assert again.result["sentence"] == held.result["sentence"] and set(again.result["stages"].values()) == {"unchanged"}
    in_words, report = redistill(project, "run"), redistill(project, "report")
    assert "verdict: hold\n" in in_words.stdout and "report:  none, because the cycle ended before it judged a student" in in_words.stdout
    assert report.code == 3 and "no cycle has written a report here yet; start one with `redistill run`" in report.stderr
    write_params(project, **OUT_OF_REACH, promote__on_unfit_teacher="continue")
    whole = redistill(project, "run", "--json")
    assert whole.code == 0, whole.stderr[-3000:]
    assert {"generate", "finetune@kd"} <= set(whole.result["stages"]) and "unfit" not in whole.result
