"""A cascade's life on a tiny project: promoted where the student alone is not, tested again as what it is, replaced, rolled back to.

The student is nearly as good as its teacher. The margin is so small that one row on which it is worse is too much; with its teacher behind it, there is none.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from redistill.serving.route_flag import evaluate, read_route
from tests.cycles import Command, FirstCycle, asking
from tests.tiny_project import write_params

pytestmark = pytest.mark.cycles

STRICT: dict[str, Any] = {
    # Of the three arms of the tiny project, its scores separate right from wrong best.
    "promote__arm": "sft",
    "promote__gates": [
        "audit",
        {"name": "teacher", "margin": 0.03},
        {"name": "champion", "margin": 0.5},
        {"name": "fairness", "margin": 0.9},
        {"name": "smaller", "below": 3.0},
    ],
    "promote__alpha_per_heldout": 0.2,
    "promote__looks_per_heldout": 2,
    "promote__min_share": 0.0,
    "route__max_disagreement": 0.25,
    "route__doubt": 0.2,
}
LENIENT = {**STRICT, "promote__gates": ["audit", *({"name": who, "margin": 0.5} for who in ("teacher", "champion"))]}
"""For the second look, whose level is half of that of the first."""


@pytest.fixture(scope="module")
def project(first_cycle: FirstCycle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Path(shutil.copytree(first_cycle.template, tmp_path_factory.mktemp("cascade") / "project", symlinks=True))
    write_params(made, **STRICT)
    return made


@pytest.fixture(scope="module")
def ask(project: Path, redistill: Command) -> Any:
    return asking(redistill, project)


@pytest.fixture(scope="module")
def first(ask: Any) -> dict[str, Any]:
    return dict(ask("run", "--json", "--reason", "first").result)


def flags(project: Path) -> Path:
    return project / "artifacts/route/flags.json"


def test_a_cascade_goes_live_with_its_threshold_and_its_evidence(first: dict[str, Any], ask: Any, project: Path) -> None:
    assert (first["verdict"], first["mode"], first["route"]) == ("promote", "cascade", "cascade"), first["reasons"]
    assert 0 < first["student_share"] < 1
    assert first["sentence"].startswith("promoted version 1 as a cascade, of which the student answers ")
    assert any(gate["result"] != "pass" for gate in first["alone"]), "the student alone was judged too"
    route, calibration = read_route(flags(project)), json.loads((project / "artifacts/calibration/sft/calibration.json").read_text())
    assert route.cascade is not None and route.cascade.threshold == calibration["cascade"]["threshold"]
    assert evaluate(flags(project)) == "cascade"
    assert f"the student answers where {route.cascade.score} is above" in ask("status", "--json").result["cascade"]
    event = ask("history", "--json").result["events"][0]
    assert event["kind"] == "promote" and event["route"] == "cascade" and "as a cascade: the student answers" in event["reason"]
    tree = json.loads((project / "artifacts/report/report.json").read_text(encoding="utf-8"))
    page = (project / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert {row["name"] for row in tree["cascade"]["systems"]} >= {"teacher", "sft alone", "sft cascade"}
    assert "The student answers where it is sure" in page and 'id="cascade"' in page


def test_the_next_night_tests_the_system_that_is_live(first: dict[str, Any], ask: Any, project: Path) -> None:
    again = ask("run", "--json").result
    assert set(again["stages"].values()) == {"unchanged"} and again["route"] == "cascade"
    assert again["sentence"].startswith("nothing to do: version 1 stays live as a cascade")
    assert again["student_share"] == first["student_share"]
    judged = ask("gate", "1", "--json").result
    assert (judged["verdict"], judged["mode"]) == ("promote", "cascade")


def test_an_operator_may_pin_either_model_and_the_threshold_stays(first: dict[str, Any], ask: Any, project: Path) -> None:
    threshold = read_route(flags(project)).cascade
    for pin, answers in (("teacher", "teacher"), ("student", "student"), ("auto", "cascade")):
        assert ask("route", "set", pin, "--reason", "trial", "--json").result["answers"] == answers
        assert read_route(flags(project)).cascade == threshold


def test_a_better_student_replaces_it_and_a_rollback_brings_the_threshold_back(first: dict[str, Any], ask: Any, project: Path) -> None:
    threshold = read_route(flags(project)).cascade
    write_params(project, **LENIENT, finetune__common__tokens=60000)
    better = ask("run", "--json", "--reason", "trained for longer").result
    assert (better["verdict"], better["model_version"]) == ("promote", "2"), better["reasons"]
    assert read_route(flags(project)).cascade != threshold
    ask("rollback", "--reason", "trial")
    route = read_route(flags(project))
    assert (route.answers, route.model_version, route.cascade) == ("cascade", "1", threshold)
