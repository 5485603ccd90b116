"""The stage ``prepare`` on files: what it says, writes and refuses where intake drops many rows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from redistill.data.params import DataParams, RecordParams, SourceParams
from redistill.data.types import Prompt
from redistill.errors import ConfigError, DataError
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.validation.params import IntakeParams
from redistill.validation.types import DroppedRow
from tasks.stages.prepare import prepare

GERMAN = "Meine Karte ist seit Montag nicht angekommen, und ich brauche sie dringend, bitte helfen Sie mir schnell; Vorgang {}"
ENGLISH = "my card has not arrived since {} and i need it, please help me with this soon"
DAYS = ("monday", "the third of may", "last winter", "before easter", "our wedding", "the strike", "her birthday", "you wrote to us")
CARD = "4111 1111 1111 1111"


def data(**splits: float) -> DataParams:
    record = RecordParams(labels=("card", "fee"))
    return DataParams(name="tiny", task="classification", record=record, source=(SourceParams(path="rows.jsonl", splits=splits),))


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def write(*rows: dict[str, str]) -> None:
        lines = [json.dumps({"label": "card", **row}) for row in rows]
        (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")

    return write


def test_rows_of_one_other_language_are_named_as_the_reason(rows, capsys: pytest.CaptureFixture[str]) -> None:
    rows(*({"text": GERMAN.format(f"{i} {'abcdefgh'[i % 8] * 9}")} for i in range(24)))
    with pytest.raises(DataError, match=r"24 of 24 rows dropped: language de 24; list it in intake\.languages"):
        prepare(data(train=0.5, heldout=0.5), IntakeParams())
    assert "[prepare] dropped 24: language: de\n" in capsys.readouterr().out
    folder = Path("artifacts/prompts")
    assert read_json(folder / "summary.json")["dropped"] == [{"filter": "language", "reason": "de", "rows": 24}]
    assert len(read_records(folder / "quarantine.parquet", DroppedRow)) == 24
    assert not (folder / "train.parquet").exists()


def test_identical_rows_are_named_as_the_reason(rows) -> None:
    rows(*({"id": str(i), "text": ENGLISH.format("monday")} for i in range(16)))
    with pytest.raises(
        DataError, match=r"split \w+ is empty after intake; .*15 of 16 rows dropped: near_duplicate duplicate of an earlier row 15"
    ):
        prepare(data(train=0.5, heldout=0.5), IntakeParams())


def test_a_split_without_rows_in_the_sources_is_not_blamed_on_filters(rows) -> None:
    rows(*({"text": ENGLISH.format(day)} for day in DAYS))
    with pytest.raises(DataError, match=r"split heldout is empty after intake; the sources have no row for it \(8 rows in all\); give"):
        prepare(data(train=1.0), IntakeParams(near_duplicate=1.0))


def test_a_row_is_dropped_for_its_label_id_or_slice(rows, capsys: pytest.CaptureFixture[str]) -> None:
    plain = [{"id": str(i), "text": ENGLISH.format(day)} for i, day in enumerate(DAYS)]
    rows(
        *plain,
        {"id": "bo@example.org", "text": "where is the statement of my savings account"},
        {"id": "x", "slice": f"card {CARD}", "text": "why do you charge a fee for each transfer abroad"},
    )
    prepare(data(train=0.5, heldout=0.5), IntakeParams(near_duplicate=1.0))
    dropped = read_records(Path("artifacts/prompts/quarantine.parquet"), DroppedRow)
    assert [(d.filter, d.reason, d.source_id, d.slice) for d in dropped] == [
        ("personal_data", "e-mail address in the id", "[EMAIL]", "all"),
        ("personal_data", "payment card in the slice", "x", "card [CARD]"),
    ]
    out = capsys.readouterr().out
    assert "[prepare] dropped 1: personal_data: e-mail address in the id\n" in out
    stored = b"".join(file.read_bytes() for file in Path("artifacts").rglob("*") if file.is_file())
    assert b"bo@example.org" not in stored and CARD.encode() not in stored


def test_a_gold_label_with_personal_data_reaches_no_split(rows) -> None:
    free = DataParams(name="tiny", task="generation", source=(SourceParams(path="rows.jsonl", splits={"train": 0.5, "heldout": 0.5}),))
    texts = [{"id": str(i), "text": ENGLISH.format(day), "label": f"we sent it {day}"} for i, day in enumerate(DAYS)]
    rows(*texts, {"id": "bad", "text": "which card did i use at the hotel", "label": f"you used {CARD}"})
    prepare(free, IntakeParams(near_duplicate=1.0))
    kept = [p for split in ("train", "heldout") for p in read_records(Path(f"artifacts/prompts/{split}.parquet"), Prompt)]
    assert len(kept) == len(DAYS) and all(CARD not in (p.label or "") for p in kept)


def test_labels_that_the_form_does_not_allow_are_said_before_anything_is_asked(rows) -> None:
    """xgrammar wants a pattern to match the whole text: the labels are valid, and no completion could be one. A row that intake drops is not named."""
    schema = {"properties": {"k": {"type": "string", "pattern": "[0-9]+"}}}
    texts = [{"id": f"r{n}", "text": ENGLISH.format(day), "label": {"k": f"x{n}y"}} for n, day in enumerate(DAYS)]
    rows({"id": CARD, "text": ENGLISH.format("today"), "label": {"k": "x9y"}}, *texts)  # type: ignore[arg-type, dict-item]
    source = SourceParams(path="rows.jsonl", splits={"train": 0.6, "heldout": 0.4})
    held = DataParams(name="tiny", task="json", schema=schema, structured_outputs=True, source=(source,))
    prepare(dataclasses.replace(held, structured_outputs=False), IntakeParams(near_duplicate=1.0))
    with pytest.raises(
        ConfigError, match=r"8 of 8 different labels cannot be written .* such as that of row r\d; simplify data.schema \(xgrammar"
    ):
        prepare(held, IntakeParams(near_duplicate=1.0))
