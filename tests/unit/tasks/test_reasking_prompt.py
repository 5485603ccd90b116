"""Slices of an earlier teacher stay only if the present one is shown the same prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.data.types import Message, Prompt
from redistill.io.json import read_json, write_json
from redistill.io.parquet import write_records
from redistill.params import load_params
from redistill.teacher.types import TeacherFingerprint
from tasks.locking.reasking import choose_reasking
from tests.tiny_project import make_tiny_project, write_params


@pytest.mark.parametrize("backend", ["transformers", "openai"])
def test_another_prompt_asks_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.chdir(make_tiny_project(tmp_path))
    arms = {"kd": {"rows": "gold_and_teacher"}}
    write_params(tmp_path, teacher__backend=backend, tune_teacher__method="off", finetune__arms=arms, promote__arm="kd")
    for split in ("pool", "calibration"):
        write_records(
            tmp_path / "artifacts" / "prompts" / f"{split}.parquet", Prompt, [Prompt.of((Message("user", split),), "1", "app", None, "")]
        )
    write_json(tmp_path / "teacher.lock.json", {"answers_from": {"default": "new"}})
    before = {"current": {"digest": "old", "parts": {"prompt": "p"}}, "answers_from": {"default": "old"}}

    def run_module(module: str, arguments: list[str]) -> tuple[int, list[str]]:
        raise AssertionError("nothing is measured")

    chosen = choose_reasking(load_params(), before, TeacherFingerprint("t", "new", {}), run_module)
    assert chosen.action == "all"
    assert chosen.reasons == ("everything is asked again: the new teacher is shown another prompt, so the same row asks it something else",)
    assert read_json("teacher.lock.json")["answers_from"] == {"default": "new"}
