"""Sealed held-out rows: they decide, and nothing that a person or a program reads tells more than the verdict."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from redistill.io.parquet import read_records
from tests.cycles import Command, FirstCycle, asking
from tests.e2e.test_cascade import LENIENT
from tests.tiny_project import write_params

pytestmark = pytest.mark.cycles

SOURCES = [
    {"path": "labelled.jsonl", "splits": {"train": 0.45, "dev": 0.15, "monitor": 0.2, "heldout": 0.2}},
    {"path": "unlabelled.jsonl", "splits": {"pool": 0.8, "calibration": 0.2}},
]


@pytest.fixture(scope="module")
def project(first_cycle: FirstCycle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Path(shutil.copytree(first_cycle.template, tmp_path_factory.mktemp("sealed") / "project", symlinks=True))
    # More steps, since fewer rows are left to train on, and a wide margin for the teacher that they make: the verdict must be the same on every processor.
    enough = {"promote__arm": "kd", "promote__new_teacher_margin": 0.9, "finetune__common__tokens": 120000}
    write_params(made, **(LENIENT | enough), data__source=SOURCES)
    return made


@pytest.fixture(scope="module")
def ask(project: Path, redistill: Command) -> Any:
    return asking(redistill, project)


@pytest.fixture(scope="module")
def ran(ask: Any) -> Any:
    return ask("run", "--json", "--reason", "first")


def numbers(tree: Any) -> Iterator[float]:
    """Every number in a tree that is not a count or a round limit."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from numbers(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from numbers(value)
    elif isinstance(tree, float) and len(repr(tree)) > 8:
        yield tree


def sealed_trees(project: Path) -> list[Any]:
    from redistill.io.sealed import unseal

    files = [*(project / "artifacts").rglob("*.sealed"), *(project / ".redistill").rglob("*.sealed")]
    assert len({file.parent.name for file in files if file.name == "results.sealed"}) >= 2
    return [json.loads(unseal(file)) for file in files]


def secrets(project: Path) -> set[float]:
    """Numbers that only the sealed rows have: what the shown rows have too is no secret."""
    open_files = [*(project / "artifacts/benchmark").rglob("report.json"), project / "artifacts/timing.json"]
    known = {x for file in open_files for x in numbers(json.loads(file.read_text(encoding="utf-8")))}
    report = json.loads((project / "artifacts/report/report.json").read_text(encoding="utf-8"))
    known |= set(numbers([report["judgement"]["on_monitor"], report["cascade"]]))
    # Costs, and the share that a cascade answers, which depends on no label: counted on held-out and monitor rows together.
    steps = [report["decision"], *report["decision"]["steps"]]
    known |= set(numbers([gate for step in steps for gate in step["gates"] if gate["rows"] is None]))
    sealed = [{k: v for k, v in tree.items() if k != "outcomes"} for tree in sealed_trees(project)]
    for tree in sealed:
        tree.get("report", {}).pop("cost", None)
    # A fraction of few rows, such as 5/6, turns up by chance.
    return {x for x in numbers(sealed) if x not in known and abs(Fraction(x).limit_denominator(40) - Fraction(x)) > 1e-12}


def texts(project: Path) -> Iterator[tuple[str, str]]:
    """Every text that the project holds, by its place; what is compressed or sealed is no text."""
    for folder in ("artifacts", ".redistill"):
        for file in sorted((project / folder).rglob("*")):
            if file.is_file() and file.suffix in {".json", ".jsonl", ".html", ".md", ".txt", ".log", ".yaml", ".sig", ".lock"}:
                yield str(file.relative_to(project)), file.read_text(encoding="utf-8", errors="replace")
    for name in ("dvc.lock", "teacher.lock.json", "sources.lock.json"):
        yield name, (project / name).read_text(encoding="utf-8")


def metrics(project: Path) -> Iterator[tuple[str, float]]:
    with sqlite3.connect(project / ".redistill/mlflow/mlflow.db") as database:
        yield from database.execute("SELECT key, value FROM metrics")
        yield from database.execute("SELECT key, value FROM latest_metrics")
        tables = ("tags", "params", "model_version_tags", "registered_model_tags", "experiment_tags")
        for table in tables:
            for key, value in database.execute(f"SELECT key, value FROM {table}"):
                yield from ((f"{table}.{key}", float(x)) for x in re.findall(r"-?\d+\.\d{6,}(?:e-?\d+)?", str(value)))


def spelled(secret: float) -> str:
    """The first digits of a number, as JSON or a log would show it."""
    return f"{secret:.17f}"[:9]


def leaks(secret_numbers: set[float], text: str) -> list[float]:
    return [secret for secret in secret_numbers if spelled(secret) in text]


def test_nothing_that_people_or_programs_read_has_a_number_of_the_sealed_rows(ran: Any, ask: Any, project: Path) -> None:
    secret = {x for x in secrets(project) if abs(x) > 1e-6}
    assert len(secret) > 20, "there is something to hide"
    for place, text in texts(project):
        assert not leaks(secret, text), place
    for name, value in metrics(project):
        assert value not in secret, name
    answers = [ran, *(ask(*command, "--json") for command in (("gate", "1"), ("heldout",), ("status",), ("history",), ("lineage", "1")))]
    for answer in answers:
        assert not leaks(secret, answer.stdout) and not leaks(secret, answer.stderr), answer.result


def test_the_rows_that_people_look_at_are_others(ran: Any, project: Path) -> None:
    from redistill.data.types import Prompt
    from redistill.evaluation.types import Outcome

    rows = {split: {p.id for p in read_records(project / f"artifacts/prompts/{split}.parquet", Prompt)} for split in ("monitor", "heldout")}
    shown = {o.prompt_id for o in read_records(project / "artifacts/benchmark/kd/outcomes.parquet", Outcome)}
    assert shown == rows["monitor"] and not shown & rows["heldout"]
    summary = json.loads((project / "artifacts/heldout/kd/summary.json").read_text())
    assert summary["n"] == len(rows["heldout"]) and set(summary) == {
        "who",
        "model_digest",
        "heldout_digest",
        "template_digest",
        "backend",
        "n",
        "slices",
    }
    texts_of = {p.text for p in read_records(project / "artifacts/prompts/heldout.parquet", Prompt)}
    page = (project / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert not [text for text in texts_of if text in page]


def test_the_verdict_and_each_gates_rows_are_told(ran: Any, project: Path) -> None:
    rows = json.loads((project / "artifacts/heldout/kd/summary.json").read_text())["n"]
    assert ran.result["verdict"] == "promote", ran.result["reasons"]
    gates = {gate["name"]: gate for gate in ran.result["gates"]}
    assert gates["non_inferior_to_teacher"]["sentence"] == f"non inferior to teacher: judged on {rows} sealed held-out rows, passed"
    assert {gate["result"] for gate in ran.result["gates"]} == {"pass"}
    monitor = {gate["name"] for gate in ran.result["on_monitor"]["gates"]}
    assert monitor == set(gates) - {"looks"}


def test_the_next_look_has_what_is_left(ran: Any, ask: Any) -> None:
    status = ask("heldout", "--json").result
    assert status["sealed"] and status["looks"] == 1 and 0 < status["alpha_left"] <= 0.1 + 1e-9
    assert status["next_level"] == pytest.approx(status["alpha_left"] / 2)


def test_another_label_gives_nothing_back(ran: Any, ask: Any, project: Path) -> None:
    """A held-out row that is labelled again makes another set, with the same prompts: what was spent stays spent."""
    from redistill.data.types import Prompt

    before = ask("heldout", "--json").result
    row = read_records(project / "artifacts/prompts/heldout.parquet", Prompt)[0]
    lines = [json.loads(line) for line in (project / "labelled.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["id"] == row.source_id:
            line["label"] = "pin" if line["label"] != "pin" else "fee"
    (project / "labelled.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    ask("run", "--json", "--reason", "relabelled")
    after = ask("heldout", "--json").result
    assert after["heldout"] != before["heldout"] and after["rows"] == before["rows"]
    assert after["alpha_left"] <= before["alpha_left"] + 1e-12


def test_a_retired_set_shows_its_results_and_decides_nothing(ran: Any, ask: Any, project: Path) -> None:
    refused = ask("heldout", "retire", "--reason", "curious", code=2)
    assert "decisions are left on this held-out set" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1
    assert "give a reason" in ask("heldout", "retire", code=2).stderr
    retired = ask("heldout", "retire", "--force", "--reason", "new rows are here", "--json").result
    assert len(retired["models"]) >= 2 and "teacher" in {model["who"] for model in retired["models"]}
    assert all(
        (project / retired["folder"] / folder.name / "outcomes.parquet").is_file() for folder in (project / retired["folder"]).iterdir()
    )
    status = ask("heldout", "--json").result
    assert status["alpha_left"] == 0.0 and status["next_level"] == 0.0
    assert any(event["kind"] == "heldout-retired" for event in ask("history", "--json").result["events"])
