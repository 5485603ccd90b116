"""The folder of an interrupted stage: found again with equal inputs, removed with others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.running.work_directory import work_directory


def test_folders_of_superseded_runs_are_removed_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stages = {name: "0" * 64 for name in ("finetune", "tune_teacher")}
    (tmp_path / "code.lock.json").write_text(json.dumps({"stages": stages}))
    work = tmp_path / ".redistill" / "work"
    names = [
        work_directory(*of).name for of in (("finetune-kd", "old"), ("finetune-sft", "x"), ("finetune-kd-2", "x"), ("tune_teacher", "x"))
    ]
    for name in (*names, "finetune-kd-notes"):
        (work / name).mkdir(parents=True)
        (work / name / "checkpoint").write_text("weights")
    again = work_directory("finetune-kd", "old")
    assert again.is_dir(), "the same inputs find the folder again"
    new = work_directory("finetune-kd", "new")
    assert not again.exists() and new.name != again.name
    assert {path.name for path in work.iterdir()} == {*names[1:], "finetune-kd-notes"}
