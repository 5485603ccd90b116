"""A student's life on a tiny project under git: promoted, followed by a starved one, approved by a person, rolled back, audited, rebuilt.

The gates are lenient here, since two tiny models are compared on some thirty rows; what is tried is the machinery, not the students.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from redistill.io.digests import file_digest
from redistill.io.disk_usage import freed_by_removing
from redistill.provenance import mlflow_names
from redistill.serving.route_flag import evaluate
from tests.aged import age_file
from tests.cycles import Command, FirstCycle, Ran, asking, user_environment
from tests.forks import ForkServer
from tests.team.backing import FILES, Backing
from tests.tiny_project import ROOT, write_params

ON_BOTH_BACKINGS = True
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
    # So few calibration rows show nothing about so small a limit: here the student is judged alone.
    "route__max_disagreement": 0.01,
}


NEVER_RUN = """
  never_run:
    cmd: "false"
    outs:
      - artifacts/never
"""


def git(project: Path, *arguments: str) -> None:
    who = ["-c", "user.name=tests", "-c", "user.email=tests@example.invalid"]
    subprocess.run(["git", *who, *arguments], cwd=project, check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(first_cycle: FirstCycle, tmp_path_factory: pytest.TempPathFactory, backing: Backing) -> Path:
    made = Path(shutil.copytree(first_cycle.template, tmp_path_factory.mktemp("life") / "project", symlinks=True))
    write_params(made, **LENIENT)
    (made / ".gitignore").write_text("/artifacts/\n/.redistill/\n/.dvc/\n/teacher/\n__pycache__/\n", encoding="utf-8")
    git(made, "init", "-q")
    git(made, "add", "-A")
    git(made, "commit", "-qm", "project")
    return made


@pytest.fixture(scope="module")
def ask(project: Path, redistill: Command, backing: Backing) -> Any:
    return asking(redistill, project, REDISTILL_USER="nightly", **backing.environment)


@pytest.fixture
def on_files(backing: Backing) -> None:
    """For tests that put a project back to an earlier day, its registry with it."""
    if backing.name != FILES:
        pytest.skip("a team's registry is backed up and restored with the tools of its database")


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
    assert (held["looks"], held["rows"]) == (1, report["arms"]["kd"]["n"]) and held["next_level"] == pytest.approx(0.2 / 4 / 4), (
        "a promotion hands its level on, and the next decision takes a quarter of it"
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


def files_of(project: Path) -> dict[str, str]:
    """Digest of every file, without those that git keeps for itself and what Python compiles."""
    files = (f for f in project.rglob("*") if f.is_file() and not {".git", "__pycache__"} & set(f.relative_to(project).parts))
    return {str(f.relative_to(project)): file_digest(f) for f in files}


def counts(ran: Ran) -> dict[str, int]:
    return {entry["kind"]: entry["count"] for entry in ran.result["removed"]}


@pytest.fixture(scope="module")
def old(first: dict[str, Any], project: Path, tmp_path_factory: pytest.TempPathFactory, backing: Backing) -> Path:
    """Two months later; only versions that something needs are kept. A copy from before gc, for a second and a killed one."""
    write_params(project, **LENIENT, retention__versions=0)
    backing.age(project, 60)
    dead = project / ".redistill/work/finetune-kd-dead/checkpoint-40/model.safetensors"
    dead.parent.mkdir(parents=True)
    dead.write_bytes(bytes(200_000))
    age_file(dead, 60)
    return Path(shutil.copytree(project, tmp_path_factory.mktemp("old") / "project", symlinks=True))


def test_gc_frees_what_nothing_needs_and_measures_it(old: Path, ask: Any, project: Path, backing: Backing) -> None:
    """Version 2, which was held, goes with its weights, its run and its objects in DVC's cache. 1 is the champion, 3 was champion before."""
    before, live, history = files_of(project), ask("status", "--json").result, ask("history", "--json").result
    occupied = freed_by_removing([project])
    planned = ask("gc", "--dry-run", "--json")
    assert files_of(project) == before, "a dry run changes nothing"
    done = ask("gc", "--json")
    assert planned.result["removed"] == done.result["removed"] and planned.result["kept"] == done.result["kept"]
    removed = counts(done)
    assert {kind: removed[kind] for kind in ("model versions", "registered weights", "unfinished stages")} == {
        "model versions": 1,
        "registered weights": 1,
        "unfinished stages": 1,
    }
    assert removed["DVC objects"] > 3 and removed["entries of DVC's run cache"] > 3 and removed["runs"] >= 1
    assert done.result["bytes"] == sum(entry["bytes"] for entry in done.result["removed"]) > 500_000
    in_project = sum(e["bytes"] for e in done.result["removed"] if backing.name == FILES or e["kind"] not in ("registered weights", "runs"))
    assert in_project == occupied - freed_by_removing([project])
    reasons = {tuple(k["names"]): k["reason"] for k in done.result["kept"] if k["kind"] == "model versions"}
    assert reasons == {("1",): "champion, reference, the route", ("3",): "challenger, previous, rejected or rolled back by a person"}
    again = ask("gc", "--json")
    assert again.result["removed"] == [] and again.result["bytes"] == 0
    assert ask("status", "--json").result == live and ask("history", "--json").result == history


def test_after_gc_every_protected_version_still_does_everything(old: Path, ask: Any, project: Path) -> None:
    assert [ask("lineage", version, "--json").result["broken"] for version in ("champion", "previous")] == [0, 0]
    assert "no such version" in ask("lineage", "2", code=6).stderr
    night = ask("run", "--json").result
    assert set(night["stages"].values()) == {"unchanged"} and night["route"] == "student"
    there = ask("rollback", "--reason", "try the other", "--json").result
    assert (there["champion"], there["previous"]) == ("3", "1")
    assert ask("rollback", "--reason", "and back", "--json").result["champion"] == "1"
    assert ask("heldout", "--json").result["looks"] >= 3, "looks are kept for ever"


@pytest.mark.usefixtures("on_files")
def test_a_backup_restores_the_whole_project_elsewhere(old: Path, ask: Any, project: Path, redistill: Command, tmp_path: Path) -> None:
    live, history = ask("status", "--json").result, ask("history", "--json").result
    (tmp_path / "backups").mkdir()
    pipeline = (project / "dvc.yaml").read_text(encoding="utf-8")
    (project / "dvc.yaml").write_text(pipeline + NEVER_RUN, encoding="utf-8")
    assert "it contains the private signing key" in ask("backup", str(tmp_path / "backups")).stdout
    (project / "dvc.yaml").write_text(pipeline, encoding="utf-8")
    [archive] = (tmp_path / "backups").iterdir()
    assert archive.stat().st_mode & 0o777 == 0o600
    assert "nothing is overwritten" in ask("backup", str(archive), code=2).stderr

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    there = asking(redistill, elsewhere, REDISTILL_USER="nightly")

    assert there("restore", str(archive), "--json").result["notes"] == []
    assert there("status", "--json").result == live and there("history", "--json").result == history
    assert there("lineage", "champion", "--json").result["broken"] == 0
    night = there("run", "--json")
    assert set(night.result["stages"].values()) == {"unchanged"} and night.result["route"] == "student"
    assert (night.result["model_version"], "completions, " in night.stderr) == ("1", False), "the teacher was asked nothing"
    assert there("rollback", "--reason", "still possible", "--json").result["champion"] == "3"
    store = mlflow_names.project_artifacts(project / ".redistill")
    assert not [uri for uri in artifact_addresses(elsewhere) if uri.startswith(store)]

    assert "is not empty" in there("restore", str(archive), code=2).stderr
    assert there("restore", str(archive), "--force", "--json").result["files"] > 100
    assert there("status", "--json").result == live, "as it was when the archive was made"


def artifact_addresses(project: Path) -> list[str]:
    with closing(sqlite3.connect(project / ".redistill/mlflow/mlflow.db")) as database:
        rows = database.execute("SELECT artifact_uri FROM runs UNION SELECT artifact_location FROM logged_models").fetchall()
    return [uri for (uri,) in rows]


@pytest.mark.usefixtures("on_files")
def test_a_gc_that_is_killed_again_and_again_ends_like_any_other(old: Path, ask: Any, project: Path, fork_server: ForkServer) -> None:
    """Killed before its 1st, 8th, 64th, … change of the file system, on top of what the kill before left."""
    shutil.rmtree(project)
    shutil.copytree(old, project, symlinks=True)
    environment = {**user_environment(), "PYTHONPATH": str(ROOT)}
    snapshots, number = list[dict[str, str]](), 1
    while True:
        done = fork_server.run("tests.killed", str(number), "-C", str(project), "gc", env=environment, server=fork_server.commands)
        if done.returncode == 0:
            break
        assert done.returncode == 128 + signal.SIGKILL, done.stderr[-2000:]
        snapshots.append(files_of(project))
        number *= 8
    assert len(snapshots) >= 3
    assert ask("gc", "--json").result["removed"] == [] and ask("lineage", "previous", "--json").result["broken"] == 0
    changing = (".dvc/tmp/", ".redistill/cycle.lock", ".redistill/mlflow/mlflow.db", ".redistill/bundles/", ".redistill/models/")
    stay = {name: digest for name, digest in files_of(project).items() if not name.startswith(changing)}
    assert all({name: now.get(name) for name in stay} == stay for now in snapshots), "nothing that stays was away for a moment"
    assert not (project / ".redistill/trash").exists() and not list((project / ".redistill").glob("tmp*"))


def test_gc_and_backup_do_not_run_beside_a_cycle(ask: Any, project: Path, tmp_path: Path) -> None:
    with open(project / ".redistill/cycle.lock", "a+", encoding="utf-8") as cycle:
        fcntl.flock(cycle, fcntl.LOCK_EX)
        for arguments in (("gc",), ("gc", "--dry-run"), ("backup", str(tmp_path))):
            refused = ask(*arguments, code=5).stderr.splitlines()[-1]
            assert refused.startswith("error: a cycle (process ") and refused.endswith("try again when it has ended")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_same_version_comes_out_of_a_clean_checkout(first: dict[str, Any], ask: Any) -> None:
    built = ask("reproduce", "1", "--json").result
    assert built["weights_identical"] and built["same_response"] == built["rows"] and built["reproduced"]
