"""What people read about a decision: the whole evidence, and where to read on."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from redistill.errors import DataError, one_line
from redistill.operations.cycle_summary import CycleSummary, Quality
from redistill.teacher.use import TeacherUse
from tasks.reporting import decision_text, links, trends
from tasks.reporting.links import Link

SENTENCE = "student 44.0 % exact match against the teacher's 51.0 %: " + "a long reason, " * 40
OUTCOME = {
    "verdict": "hold",
    "model_version": "3",
    "route": "teacher",
    "blocked": None,
    "reasons": [SENTENCE + "a | b"],
    "gates": [{"name": "non_inferior_to_teacher", "result": "hold", "sentence": SENTENCE + "a | b"}],
}
NIGHT = CycleSummary(
    "bank-1", dt.datetime(2026, 11, 27, 2, tzinfo=dt.UTC), "completed", 3, 90.0, "hold | version 3", use=TeacherUse(32, 410, 133, 1800)
)
LINKS = [
    Link("this cycle in MLflow", "http://127.0.0.1:5000/#/experiments/1/runs/r"),
    Link("report", None, Path("artifacts/report/index.html")),
]


def test_evidence_is_not_cut_and_stands_once() -> None:
    text = decision_text.decision(OUTCOME, NIGHT, LINKS)
    assert f"- – hold · **non inferior to teacher**: {SENTENCE}a | b" in text and text.count(SENTENCE) == 1
    assert "asked 32 rows (410 tokens); 133 rows (1,800 tokens) were in the store" in text


def test_links_are_addresses_or_files() -> None:
    for text in (decision_text.decision(OUTCOME, NIGHT, LINKS), decision_text.note(OUTCOME, LINKS)):
        assert "- [this cycle in MLflow](http://127.0.0.1:5000/#/experiments/1/runs/r)" in text
        assert "- report: `artifacts/report/index.html`" in text


def test_a_blocked_promotion_says_what_blocks_it() -> None:
    text = decision_text.note({**OUTCOME, "verdict": "promote", "blocked": "promotions are frozen"}, [])
    assert "# passed, but not promoted: version 3" in text and "Not promoted, because promotions are frozen." in text


def test_the_last_nights_are_a_table() -> None:
    good = CycleSummary(
        "bank-2", NIGHT.started_at, "completed", 0, 9.0, "nothing to do", student=Quality(0.44, 0.4, 0.48), usd=0.001, disk_bytes=61_000_000
    )
    table = trends.table_of([NIGHT, good], lambda run_id: None)
    head, _, newest, oldest = table.splitlines()
    assert {line.count("|") for line in (head, newest, oldest)} == {9}
    assert "| 44.0 % | – | – | 0.1 | 0.001 | 61 | nothing to do |" in newest and "| – | – | 32 | 1.5 | – | – | hold / version 3 |" in oldest


def test_a_password_in_the_address_of_mlflow_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ops:s3cret@mlflow.example:5000/base/")
    assert links._server() == "https://mlflow.example:5000/base"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert links._server() is None


def test_an_error_is_kept_as_one_line_without_credentials() -> None:
    ours = DataError("artifacts/x is missing;\nrun the stage again")
    assert one_line(ours) == "artifacts/x is missing; run the stage again"
    foreign = OSError("cannot reach postgresql://ops:s3cret@db/prefect\n  Traceback, many lines")
    assert one_line(foreign) == "OSError: cannot reach postgresql://db/prefect"
    assert len(one_line(DataError("x" * 9000))) == 500
