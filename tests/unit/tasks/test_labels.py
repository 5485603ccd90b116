"""``redistill labels``: rows go out without a label, and come back checked, with who and when."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from redistill.data.params import DataParams, RecordParams, SourceParams
from redistill.data.sources import load
from redistill.data.types import Message, Prompt
from redistill.errors import ConfigError, DataError
from redistill.io.json import json_lines, write_json
from redistill.io.parquet import write_records
from redistill.params import parse_params
from redistill.teacher.types import TeacherCompletion
from tasks.reporting.label_import import import_labels
from tasks.reporting.label_requests import export
from tests.tiny_project import params as tiny_params

TEXTS = [f"I was charged a fee of {i} pounds" for i in range(40)]


def prompt(text: str, label: str | None = None, source: str = "unlabelled.jsonl") -> Prompt:
    return Prompt.of((Message("user", text),), f"id {text[-9:]}", "app", label, source)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project after ``generate`` and a report with a plan."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDISTILL_USER", "ana")
    whole = parse_params(tiny_params("0" * 64))
    data = DataParams(
        name="tiny",
        source=(
            SourceParams(path="heldout.jsonl", splits={"heldout": 1.0}),
            SourceParams(path="monitor.jsonl", splits={"monitor": 1.0}),
            SourceParams(path="unlabelled.csv", splits={"pool": 1.0}),
        ),
        task="record",
        record=RecordParams(labels=("card", "fee"), entities=("amount",), several=True),
    )
    Path("heldout.jsonl").write_text(
        json_lines([{"id": "h1", "text": "My card is lost", "slice": "app", "label": "card"}]), encoding="utf-8"
    )
    pool = [prompt(text) for text in TEXTS]
    folder = Path("artifacts/prompts")
    write_records(folder / "pool.parquet", Prompt, pool)
    shown = [prompt("My card is gone", "fee", "monitor.jsonl"), prompt("What is this fee", "fee", "monitor.jsonl")]
    rows = [{"id": p.source_id, "text": p.text, "slice": p.slice, "label": p.label} for p in shown]
    Path("monitor.jsonl").write_text(json_lines(rows), encoding="utf-8")
    Path("unlabelled.csv").write_text("id,text,slice\n" + "".join(f"u{i},{text},app\n" for i, text in enumerate(TEXTS)), encoding="utf-8")
    write_records(folder / "monitor.parquet", Prompt, shown)
    completions = [TeacherCompletion(p.id, 0, f"fee; amount={p.text.split()[-2]} pounds", None, (), "stop", "teacher") for p in pool]
    write_records(Path("artifacts/completions/completions.parquet"), TeacherCompletion, completions)
    plan = {"prompts": [{"slice": "app", "label": "fee", "ask_for": 3}], "relabel": [{"prompt_id": shown[0].id}]}
    write_json(Path("artifacts/report/patch.json"), plan)
    return dataclasses.replace(whole, data=data)


def lines(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]


def filled(file: str, label: str | None = None) -> Path:
    """Every exported row with the label that its text has, or with ``label``."""
    rows = lines(file)
    for row in rows:
        row["label"] = label if label is not None else f"fee; amount={row['text'].split()[-2]} pounds"
    Path(file).write_text(json_lines(rows), encoding="utf-8")
    return Path(file)


def test_random_rows_for_the_measured_splits_never_overlap_and_show_no_completion(params: Any) -> None:
    for purpose in ("heldout", "monitor"):
        export(params, purpose, Path(f"{purpose}.jsonl"), 100)  # type: ignore[arg-type]
    held, shown = ({row["text"] for row in lines(f"{purpose}.jsonl")} for purpose in ("heldout", "monitor"))
    assert held and shown and not held & shown and held | shown == set(TEXTS)
    assert all(row["label"] == "" and "teacher" not in row for row in lines("monitor.jsonl"))


def test_rows_that_no_split_uses_come_first_and_pass_intake(params: Any) -> None:
    """Labelling them changes no training row. One holds a card number, which nobody is shown."""
    texts = [f"Please tell me about fee number {i}" for i in range(60)]
    lines_ = [f"r{i},{text},app\n" for i, text in enumerate([*texts, "My card is 4111 1111 1111 1111 please help me"])]
    Path("reserve.csv").write_text("id,text,slice\n" + "".join(lines_), encoding="utf-8")
    more = SourceParams(path="reserve.csv", splits={"pool": 0.01})
    wider = dataclasses.replace(params, data=dataclasses.replace(params.data, source=(*params.data.source, more)))
    export(wider, "heldout", Path("out.jsonl"), 10)
    chosen = {row["text"] for row in lines("out.jsonl")}
    assert len(chosen) == 10 and chosen <= set(texts)
    export(wider, "heldout", Path("out.jsonl"), 1000)
    assert not any("4111" in row["text"] for row in lines("out.jsonl"))


def test_the_plan_chooses_rows_for_training_and_the_completion_is_shown_where_asked(params: Any) -> None:
    done = export(params, "train", Path("out.jsonl"), 50, teacher=True)
    rows = lines("out.jsonl")
    assert done["rows"] == len(rows) == 3 and {row["why"] for row in rows} == {"more rows of app with fee"}
    assert all(row["teacher"].startswith("fee; amount=") for row in rows)


def test_a_suspicious_label_is_asked_again_without_being_shown(params: Any) -> None:
    export(params, "relabel", Path("out.jsonl"), 50)
    (row,) = lines("out.jsonl")
    assert row["text"] == "My card is gone" and row["label"] == "" and "fee" not in json.dumps({**row, "why": ""})


def test_labelled_rows_are_added_with_who_and_when_and_can_be_read(params: Any) -> None:
    export(params, "heldout", Path("out.jsonl"), 5)
    done = import_labels(params, filled("out.jsonl"), Path("heldout.jsonl"))
    assert (done["added"], done["changed"], done["without_label"], done["by"]) == (5, 0, 0, "ana")
    rows = lines("heldout.jsonl")
    assert len(rows) == 6 and rows[-1]["labelled_by"] == "ana" and rows[-1]["labelled_at"].startswith("20")
    only = dataclasses.replace(params.data, source=params.data.source[:1])
    assert len(load(only, Path())["heldout"]) == 6
    again = import_labels(params, Path("out.jsonl"), Path("heldout.jsonl"))
    assert (again["added"], again["same"]) == (0, 5), "an import may be repeated"


def test_a_new_label_replaces_the_old_one(params: Any) -> None:
    row = {"prompt_id": prompt("My card is lost").id, "text": "My card is lost", "label": "card+fee"}
    Path("out.jsonl").write_text(json_lines([row]), encoding="utf-8")
    assert import_labels(params, Path("out.jsonl"), Path("heldout.jsonl"), by="ben")["changed"] == 1
    (now,) = lines("heldout.jsonl")
    assert (now["label"], now["labelled_by"], now["id"]) == ("card+fee", "ben", "h1")


def test_every_problem_is_reported_and_nothing_is_added(params: Any) -> None:
    export(params, "heldout", Path("out.jsonl"), 4)
    rows = lines("out.jsonl")
    rows[0]["label"] = "refund"
    rows[1]["text"] += "!"
    rows[2]["label"] = "fee; amount=99 dollars"
    rows.append({**rows[3], "label": "fee"})
    rows[3]["label"] = "fee"
    Path("out.jsonl").write_text(json_lines(rows), encoding="utf-8")
    before = Path("heldout.jsonl").read_bytes()
    with pytest.raises(DataError, match="4 problems, so nothing was added") as error:
        import_labels(params, Path("out.jsonl"), Path("heldout.jsonl"))
    assert "line 2: its text was changed after the export" in str(error.value) and "same message as in line 4" in str(error.value)
    assert Path("heldout.jsonl").read_bytes() == before and "\n" not in str(error.value)


def test_rows_without_a_label_wait(params: Any) -> None:
    export(params, "heldout", Path("out.jsonl"), 3)
    done = import_labels(params, Path("out.jsonl"), Path("heldout.jsonl"))
    assert (done["added"], done["without_label"]) == (0, 3)


@pytest.mark.parametrize("into", ["other.jsonl", "unlabelled.csv"])
def test_only_a_jsonl_source_gets_rows(params: Any, into: str) -> None:
    with pytest.raises(ConfigError, match="not a JSONL file of data.source; .*the JSONL sources are heldout.jsonl, monitor.jsonl"):
        import_labels(params, Path("out.jsonl"), Path(into))


def test_without_a_plan_or_a_fitting_row_it_says_so(params: Any) -> None:
    Path("artifacts/report/patch.json").unlink()
    with pytest.raises(DataError, match="only a cycle that ended in a hold writes one"):
        export(params, "train", Path("out.jsonl"), 5)
    write_json(Path("artifacts/report/patch.json"), {"prompts": [], "relabel": []})
    with pytest.raises(DataError, match="nothing to label for train"):
        export(params, "train", Path("out.jsonl"), 5)
    assert not Path("out.jsonl").exists()
