"""A student's life on a tiny project under git: promoted, followed by a starved one, approved by a person, rolled back, audited, rebuilt.

The gates are lenient here, since two tiny models are compared on some thirty rows; what is tried is the machinery, not the students.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from redistill.serving.route_flag import evaluate
from tests.cycles import Command, FirstCycle, Ran
from tests.tiny_project import write_params

LENIENT: dict[str, Any] = {
    "promote__gates": [
        "audit",
        *({"name": who, "margin": 0.6} for who in ("teacher", "champion", "reference")),
        {"name": "fairness", "margin": 0.9},
        {"name": "smaller"},
        {"name": "faster", "below": 20.0},
    ],
    "promote__alpha_per_heldout": 0.2,
    "promote__looks_per_heldout": 4,
}


def git(project: Path, *arguments: str) -> None:
    who = ["-c", "user.name=tests", "-c", "user.email=tests@example.invalid"]
    subprocess.run(["git", *who, *arguments], cwd=project, check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(first_cycle: FirstCycle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Path(shutil.copytree(first_cycle.template, tmp_path_factory.mktemp("life") / "project", symlinks=True))
    write_params(made, **LENIENT)
    (made / ".gitignore").write_text("/artifacts/\n/.redistill/\n/.dvc/\n/teacher/\n__pycache__/\n", encoding="utf-8")
    git(made, "init", "-q")
    git(made, "add", "-A")
    git(made, "commit", "-qm", "project")
    return made


@pytest.fixture(scope="module")
def ask(project: Path, redistill: Command) -> Any:
    def run(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> Ran:
        done = redistill(project, *arguments, env={"REDISTILL_USER": "nightly", **(env or {})})
        assert done.code == code, done.stderr[-3000:]
        return done

    return run


@pytest.fixture(scope="module")
def first(ask: Any) -> dict[str, Any]:
    return dict(ask("run", "--json", "--reason", "first").result)


def flag(project: Path) -> str:
    return evaluate(project / "artifacts/route/flags.json")


def test_a_student_that_passes_is_promoted_with_all_its_evidence(first: dict[str, Any], ask: Any, project: Path) -> None:
    assert (first["verdict"], first["model_version"], first["route"]) == ("promote", "1", "student"), first["reasons"]
    assert flag(project) == "student"
    said = ask("status", "--json").result
    assert [said[k] for k in ("champion", "challenger", "previous", "reference", "moved_outside")] == ["1", "1", None, "1", None]
    report = json.loads((project / "artifacts/report/report.json").read_text(encoding="utf-8"))
    assert report["judgement"]["audit"]["rows"] > 100 and report["judgement"]["audit"]["quotes_heldout"] == 0
    assert [e["number"] for e in report["judgement"]["looks"]] == [1] and report["arms"]["kd"]["calibration"]["bins"]
    assert (
        report["economics"]["cycle"]["unmeasured"] == []
        and report["economics"]["cycle"]["seconds_whole"] > 0
        and report["economics"]["break_even"] is None
    ), "no machine price is set"
    assert "# tiny, version 1" in (project / "artifacts/report/model-card.md").read_text(encoding="utf-8")
    assert not (project / "artifacts/report/patch.json").exists()
    held = ask("heldout", "--json").result
    assert (held["looks"], held["rows"]) == (1, report["arms"]["kd"]["n"]) and held["next_level"] == pytest.approx(0.1), (
        "what passed hands on"
    )
    low, high = held["drift_by_chance"]
    assert low < 0.5 < high and held["drift_shown"] == (held["drift_auc"] > high)


def test_a_night_without_news_costs_no_look(first: dict[str, Any], ask: Any) -> None:
    again = ask("run", "--json").result
    assert set(again["stages"].values()) == {"unchanged"} and again["verdict"] == "promote" and again["route"] == "student"
    assert ask("heldout", "--json").result["looks"] == 1
    assert [e["kind"] for e in ask("history", "--json").result["events"]] == ["promote"]


def test_a_starved_student_is_held_with_a_reason_and_a_plan(first: dict[str, Any], ask: Any, project: Path) -> None:
    write_params(project, **LENIENT, finetune__common__tokens=200)
    held = ask("run", "--json", "--reason", "starved").result
    assert (held["verdict"], held["model_version"], held["route"]) == ("hold", "2", "student"), "the champion goes on answering"
    assert any("against the teacher's" in reason for reason in held["reasons"])
    plan = json.loads((project / "artifacts/report/patch.json").read_text(encoding="utf-8"))
    assert "non_inferior_to_teacher" in plan["because"] and plan["prompts"] and all(p["ask_for"] >= 1 for p in plan["prompts"])
    assert plan["lost"] and {"source_id", "label", "student", "teacher"} <= set(plan["lost"][0])
    refused = ask("promote", "2", "--reason", "I like it", code=6)
    assert "version 2 is on hold and cannot be promoted" in refused.stderr
    assert ask("status", "--json").result["champion"] == "1"


def test_a_person_approves_and_rolls_back(first: dict[str, Any], ask: Any, project: Path) -> None:
    person = {**LENIENT, "promote__approval": "person", "promote__two_people": True, "promote__arm": "sft"}
    write_params(project, **person)
    waiting = ask("run", "--json", "--reason", "another arm").result
    assert waiting["verdict"] == "promote" and "waits for a person" in waiting["blocked"] and waiting["model_version"] == "3"
    assert ask("status", "--json").result["champion"] == "1"
    assert "another person must approve it" in ask("promote", "challenger", "--reason", "mine", code=2).stderr
    approved = ask("promote", "challenger", "--reason", "read the report", "--json", env={"REDISTILL_USER": "grace"}).result
    assert approved == {"champion": "3", "previous": "1", "reference": "1", "route": "student", "pin": "none"}
    back = ask("rollback", "--reason", "the branch complains", "--json").result
    assert (back["champion"], back["previous"], back["route"]) == ("1", "3", "student")
    night = ask("run", "--json").result
    assert night["verdict"] == "promote" and "version 3 was rolled back by nightly" in night["blocked"] and night["route"] == "student"
    assert ask("status", "--json").result["champion"] == "1"
    events = [e for e in ask("history", "--json").result["events"] if e["kind"] != "hold"]
    assert [(e["kind"], e["version"], e["by"]) for e in events][-2:] == [("promote", "3", "grace"), ("rollback", "1", "nightly")]
    write_params(project, **LENIENT)


def test_any_version_can_be_judged_again(first: dict[str, Any], ask: Any) -> None:
    again = ask("gate", "champion", "--json").result
    assert again["version"] == "1" and again["verdict"] == "promote"
    faster = next(g for g in again["gates"] if g["name"] == "faster")
    assert faster["interval"]["low"] <= faster["value"] <= faster["interval"]["high"] < faster["limit"]


def test_the_chain_is_whole_until_somebody_touches_it(first: dict[str, Any], ask: Any, project: Path) -> None:
    whole = ask("lineage", "champion", "--json").result
    assert whole["broken"] == 0 and len(whole["links"]) > 40
    assert {"version", "finetune@kd", "tune_teacher", "generate", "prepare", "sources", "models", "licences"} <= {
        x["part"] for x in whole["links"]
    }
    terms = project / "terms.md"
    good = terms.read_text(encoding="utf-8")
    terms.write_text(good + "and nothing else\n", encoding="utf-8")
    try:
        assert "is broken at licences: terms.md is changed" in ask("lineage", "1", code=6).stderr
    finally:
        terms.write_text(good, encoding="utf-8")


@pytest.mark.long
def test_the_same_version_comes_out_of_a_clean_checkout(first: dict[str, Any], ask: Any) -> None:
    built = ask("reproduce", "1", "--json").result
    assert built["weights_identical"] and built["same_response"] == built["rows"] and built["reproduced"]
