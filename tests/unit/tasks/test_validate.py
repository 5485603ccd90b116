"""The stage ``validate`` on files: who is kept, what quarantine and Data Docs may hold, and what a failed batch leaves."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from redistill.data.params import DataParams, RecordParams, SourceParams
from redistill.data.types import Message, Prompt
from redistill.distillation.types import TrainingRow
from redistill.errors import DataError
from redistill.io.json import read_json, write_json
from redistill.io.parquet import read_records, write_records
from redistill.models.tokenizers import load_tokenizer, tokenizer_digest
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherCompletion
from redistill.validation.params import IntakeParams, ValidateParams
from redistill.validation.types import DroppedRow
from tasks.stages.validate import validate

DATA = DataParams(
    name="tiny",
    source=(SourceParams(path="rows.jsonl", splits={"pool": 1.0}),),
    task="record",
    record=RecordParams(labels=("card", "fee"), flags=("urgent",), entities=("amount", "merchant"), several=True),
)
LOCK = {
    "source": {"model": "m", "backend": "openai"},
    "current": {"name": "m", "digest": "d" * 64, "parts": {}},
    "answers_from": {"default": "d" * 64},
    "capabilities": {"logprobs": "none", "max_k": 0, "tokenizer_digest": None},
}
# Words that stand nowhere but in texts: prompts, kept completions and dropped ones.
MARKS = ("Zebrawood", "quokka", "me@example.org", "Narwhal")
SAID = ["card", "fee; merchant=Zebrawood", "fee; merchant=me@example.org", "the Narwhal is cross", "fee; merchant=Invented", "fee"]


@pytest.fixture
def project(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six pool prompts and one of calibration, each with a completion of one kind."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "artifacts" / "base"
    folder.mkdir(parents=True)
    for file in tiny_model_dir.glob("token*"):
        shutil.copy(file, folder)
    shutil.copy(tiny_model_dir / "config.json", folder)
    asked = [prompt(f"Zebrawood sold me quokka number {i}, what now") for i in range(len(SAID) + 1)]
    for split, rows in (("pool", asked[:-1]), ("calibration", asked[-1:]), ("heldout", [prompt("quite another matter")])):
        write_records(tmp_path / "artifacts" / "prompts" / f"{split}.parquet", Prompt, rows)
    completions = [
        TeacherCompletion(p.id, 0, text, None, (1, 2), "stop", "d" * 64, -0.1) for p, text in zip(asked, [*SAID, "card"], strict=True)
    ]
    write_records(tmp_path / "artifacts" / "completions" / "completions.parquet", TeacherCompletion, completions)
    write_json(tmp_path / "teacher.lock.json", LOCK)
    return tmp_path


def prompt(text: str) -> Prompt:
    return Prompt.of((Message("user", text),), text[-24:], "app", None, "rows.jsonl")


def test_kept_rows_train_dropped_rows_are_told_and_no_text_reaches_the_docs(project: Path) -> None:
    validate(DATA, IntakeParams(), GenerateParams(), ValidateParams(min_rows=5))
    folder = project / "artifacts" / "validated"
    kept, calibration = (read_records(folder / f"{name}.parquet", TrainingRow) for name in ("kept", "calibration"))
    assert [(r.completion, r.origin) for r in kept] == [(f" {SAID[i]}", "teacher") for i in (0, 1, 5)]
    assert [r.completion for r in calibration] == [" card"]
    tokenizer = load_tokenizer("artifacts/base")
    for row in (*kept, *calibration):
        assert [(s.kind, s.begin) for s in row.spans] == [("prompt", 0), ("completion", row.completion_begin)]
        assert tokenizer.decode(row.token_ids[: row.completion_begin]).endswith("=>") and row.tokenizer == tokenizer_digest(tokenizer)
        assert tokenizer.decode(row.completion_ids[:-1]) == row.completion and row.completion_ids[-1] == tokenizer.eos_token_id
    dropped = read_records(folder / "dropped.parquet", DroppedRow)
    assert [(d.filter, d.reason, d.redacted) for d in dropped] == [
        ("personal_data", "e-mail address", "fee; merchant=[EMAIL]"),
        ("format", "malformed record or unlisted label", "the Narwhal is cross"),
        ("format", "entity not in the message", "fee; merchant=Invented"),
    ]
    summary = read_json(folder / "summary.json")
    assert (summary["judged"], summary["kept"]) == (7, 4) and sum(d["rows"] for d in summary["dropped"]) == 3
    assert all(rule["passed"] for rule in summary["rules"])
    files = [f for f in (project / "artifacts" / "data_docs").rglob("*") if f.is_file()]
    assert any(f.suffix == ".json" and "validations" in f.parts for f in files) and any(f.name == "index.html" for f in files)
    found = [(f.name, mark) for f in files for mark in MARKS if mark.encode() in f.read_bytes()]
    assert found == []


def test_a_failed_batch_trains_nothing_and_says_where_to_look(project: Path) -> None:
    with pytest.raises(DataError, match="observed 0.57.*limits {'min_value': 0.9}") as caught:
        validate(DATA, IntakeParams(), GenerateParams(), ValidateParams(min_rows=5, min_kept_share=0.9))
    assert not any(mark in str(caught.value) for mark in MARKS)
    assert not (project / "artifacts" / "validated" / "kept.parquet").exists()
    for named in re.findall(r"artifacts/[\w/.]+\w", str(caught.value)):
        assert (project / named).is_file(), f"the message sends its reader to {named}, which is not there"
