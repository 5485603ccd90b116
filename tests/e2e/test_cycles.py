"""Whole cycles on tiny models, one after the other on one project: few cycles, many assertions."""

from __future__ import annotations

import dataclasses
import fcntl
import html
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from redistill.distillation.types import TrainingRow
from redistill.io.parquet import read_records, write_records
from redistill.runtime.environment import child_environment
from redistill.teacher.use import TeacherUse
from tasks.running.fork_request import SOCKET
from tests.cycles import Command, FirstCycle, user_environment
from tests.forks import ForkServer
from tests.tiny import make_tiny_model
from tests.tiny_project import write_params

STAGES = {
    "prepare",
    "tune_teacher",
    "init_student",
    "fitness",
    "timing",
    "benchmark@teacher",
    "generate",
    "validate",
    "score",
    *(f"{stage}@{a}" for stage in ("finetune", "calibrate") for a in ("gold", "sft", "kd")),
    *(f"benchmark@{w}" for w in ("linear", "base", "gold", "sft", "kd")),
    *(f"heldout@{w}" for w in ("teacher", "gold", "sft", "kd")),
}


@pytest.fixture(scope="module")
def first(first_cycle: FirstCycle) -> dict[str, Any]:
    return first_cycle.outcome


@pytest.fixture(scope="module")
def tiny_project(first_cycle: FirstCycle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(first_cycle.finished, tmp_path_factory.mktemp("first") / "project", symlinks=True))


@pytest.fixture(scope="module")
def with_prefect(prefect_home: Path, prefect_api: str) -> dict[str, str]:
    """The environment of a command that is not waited for."""
    return {**user_environment(), "PREFECT_HOME": str(prefect_home), "PREFECT_API_URL": prefect_api}


def report(project: Path) -> dict[str, Any]:
    return json.loads((project / "artifacts/report/report.json").read_text(encoding="utf-8"))


def test_first_cycle_makes_everything_offline(first: dict[str, Any], tiny_project: Path) -> None:
    assert set(first["stages"]) == STAGES
    assert set(first["stages"].values()) == {"ran"}
    assert first["reasons"]
    assert first["model_version"] == "1"
    assert first["route"] == ("student" if first["verdict"] == "promote" else "teacher")
    tree = report(tiny_project)
    assert tree["decision"]["verdict"] == first["verdict"]
    assert set(tree["arms"]) == {"teacher", "linear", "base", "gold", "sft", "kd"}
    assert tree["arms"]["teacher"]["exact_match"]["value"] > 0.3, "the tiny teacher learnt its labels"
    assert len({a["heldout_digest"] for a in tree["arms"].values()}) == 1
    for metric, kept in tree["retention"].items():
        assert kept["value"] == pytest.approx(tree["arms"]["kd"][metric]["value"] / tree["arms"]["teacher"][metric]["value"])
        assert kept["interval"]["low"] <= kept["value"] <= kept["interval"]["high"]
    costs = [tree["arms"][arm]["cost"] for arm in ("base", "gold", "sft", "kd")]
    assert len({cost["latency_p50_s"] for cost in costs}) == 1 and costs[0]["latency_p50_s"] > 0, "one architecture, one timing"
    assert costs[0] != tree["arms"]["teacher"]["cost"] and len(tree["timing"]["student"]["request_s"]) == 8
    faster = next(gate for gate in tree["decision"]["gates"] if gate["name"] == "faster")
    assert faster["value"] == tree["timing"]["ratio"]["request"]["value"] and not (tiny_project / ".redistill/timings").exists()
    assert not tree["governance"]["planted_passed"]
    assert (tiny_project / "artifacts/report/index.html").stat().st_size > 10_000


def test_registered_version_carries_its_evidence(first: dict[str, Any], tiny_project: Path, redistill: Command) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tiny_project}/.redistill/mlflow/mlflow.db")
    version = client.get_model_version_by_alias("tiny", "challenger")
    assert version.version in (1, "1")
    run = client.get_run(version.tags["redistill.mlflow_run_id"])
    assert run.data.tags["redistill.status"] == "completed"
    held = {a.path for a in client.list_artifacts(run.info.run_id, "evidence")}
    names = {Path(p).name for p in held}
    assert {"teacher.lock.json", "sources.lock.json", "dvc.lock", "params.yaml", "report", "benchmark"} <= names
    assert {"kd/loss", "kd/exact_match", "teacher/f1", "kd/latency_p50_s", "teacher/latency_p50_s"} <= set(run.data.metrics)
    ratio = [run.data.metrics[f"student_to_teacher/request_time{end}"] for end in ("_low", "", "_high")]
    assert 0 < ratio[0] <= ratio[1] <= ratio[2] and run.data.tags["redistill.stages_ran"] == str(len(STAGES))
    assert (
        0 < run.data.metrics["cycle/student_quality"] <= 1
        and run.data.metrics["cycle/asked_rows"] == report(tiny_project)["teacher_use"]["asked_rows"] > 0
    )
    assert (
        first["sentence"] == run.data.tags["redistill.sentence"] and first["sentence"] and "report" in run.data.tags["mlflow.note.content"]
    )
    said = redistill(tiny_project, "status", "--json").result
    assert said["challenger"] == "1"
    assert (said["champion"] == "1") == (first["verdict"] == "promote")
    assert list((tiny_project / ".redistill" / "mlflow" / "artifacts").rglob("*.safetensors"))
    assert not (tiny_project / "mlruns").exists(), "nothing of a cycle's lies outside its own folders"


def test_second_cycle_waits_for_another_to_end_and_changes_nothing(
    first: dict[str, Any],
    tiny_project: Path,
    fork_server: ForkServer,
    with_prefect: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open(tiny_project / ".redistill/cycle.lock", "a+", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with fork_server.start("redistill", "-C", str(tiny_project), "run", "--json", env=with_prefect) as waiting:
            said = next(line for line in waiting.stdout if "another cycle" in line)
            assert "waiting for it to end" in said
            fcntl.flock(held, fcntl.LOCK_UN)
            rest = waiting.communicate(timeout=300)[0]
    assert waiting.returncode == 0, rest[-2000:]
    outcome = json.loads(next(line for line in rest.splitlines() if line.startswith("{")))
    assert set(outcome["stages"].values()) == {"unchanged"}
    assert outcome["model_version"] == "1"
    assert outcome["verdict"] == first["verdict"]
    from redistill.params import load_params
    from tasks.registry.cycle_summaries import recent_cycles

    monkeypatch.chdir(tiny_project)
    past = recent_cycles(load_params())
    assert [cycle.ran > 0 for cycle in past] == [True, False] and past[0].seconds > past[1].seconds > 0, "a quiet night is known as one"
    whole, quiet = past
    assert whole.use is not None and whole.use.asked_rows > 100 and whole.use.asked_tokens > whole.use.asked_rows
    assert quiet.use == TeacherUse() and quiet.sentence.startswith("nothing to do")
    assert whole.student is not None and whole.teacher is not None and quiet.student == whole.student
    assert whole.disk_bytes is not None and quiet.disk_bytes is not None and min(whole.disk_bytes, quiet.disk_bytes) > 1_000_000
    shown = json.loads((tiny_project / "artifacts/trends/nights.json").read_text(encoding="utf-8"))
    assert [night["sentence"] for night in shown] == [whole.sentence, quiet.sentence], "the page of trends has the quiet night too"
    assert quiet.sentence in html.unescape((tiny_project / "artifacts/trends/index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def copy(first: dict[str, Any], tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after its first cycle, for what must not disturb it."""
    return Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("copy") / "project", symlinks=True))


@pytest.mark.parametrize(("name", "processes"), [("logit", 1), ("sequence", 1), ("online", 2), ("on_policy", 1)])
def test_every_method_trains_a_student_that_beats_the_untrained(copy: Path, fork_server: ForkServer, name: str, processes: int) -> None:
    """The stage itself, with its own files and teacher; online in two processes. Scored on dev, where the untrained one gets nothing right."""
    from redistill.data.types import Prompt
    from redistill.evaluation.dev_score import dev_score
    from redistill.models.checkpoints import load_model
    from redistill.models.tokenizers import load_tokenizer
    from redistill.params import load_params

    alpha = 0.0 if name == "sequence" else 0.5
    method = {"name": name, **({"on_policy_fraction": 0.2, "max_tokens": 8} if name == "on_policy" else {})}
    prompts = {"finetune__arms__kd__prompt_weight": 0.5} if name == "sequence" else {}
    write_params(copy, finetune__method=method, finetune__arms__kd__alpha=alpha, finetune__common__processes=processes, **prompts)
    done = fork_server.run("tasks.running.stage_command", "finetune", "kd", cwd=copy, env={**child_environment(), "PYTHONPATH": str(copy)})
    assert done.returncode == 0, done.stderr[-3000:]
    kd, sft = (json.loads((copy / f"artifacts/students/{arm}.json").read_text()) for arm in ("kd", "sft"))
    assert kd["method"] == name and kd["tokens_a_row"] == sft["tokens_a_row"]
    assert kd["targets_a_row"] > 1.5 * sft["targets_a_row"], "prompts are supervised, by probabilities or by their text"
    dev, data = read_records(copy / "artifacts/prompts/dev.parquet", Prompt), load_params(copy / "params.yaml").data
    found = {
        who: dev_score(load_model(folder), load_tokenizer(folder), dev, data, 16)
        for who, folder in (("base", copy / "artifacts/base"), ("kd", copy / "artifacts/students/kd"))
    }
    assert found["kd"].f1 > 0.5 > 0.1 >= found["base"].f1


def test_a_method_whose_needs_are_unmet_is_refused_before_training(copy: Path, fork_server: ForkServer) -> None:
    def said(*stage: str) -> tuple[int, str]:
        done = fork_server.run(*stage, cwd=copy, env={**child_environment(), "PYTHONPATH": str(copy)})
        return done.returncode, done.stderr.strip().splitlines()[-1]

    write_params(copy, score__top_k=10_000)
    code, line = said("tasks.running.stage_command", "score")
    assert code == 2 and "the teacher's vocabulary has 400 tokens; lower score.top_k" in line, line
    write_params(copy, finetune__method="online")
    rows = read_records(copy / "artifacts/validated/kept.parquet", TrainingRow)
    write_records(copy / "artifacts/validated/kept.parquet", TrainingRow, [dataclasses.replace(r, teacher="0" * 64) for r in rows])
    code, line = said("tasks.running.stage_command", "finetune", "kd")
    assert code == 3 and "teacher 000000000000 wrote" in line and "kept rows, but teacher.lock.json names" in line, line
    write_params(copy)
    code, line = said("tasks.running.stage_command", "finetune", "kd")
    assert code == 3 and "teacher 000000000000 wrote" in line and "kept rows, but teacher.lock.json names" in line, line
    code, line = said("tasks.running.stage_command", "score")
    assert code == 3 and "teacher 000000000000 wrote" in line and "teacher.lock.json names" in line, line
    write_records(copy / "artifacts/validated/kept.parquet", TrainingRow, [dataclasses.replace(r, tokenizer="f" * 64) for r in rows])
    code, line = said("tasks.running.stage_command", "finetune", "kd")
    assert code == 3 and "the kept rows have tokens of tokenizer ffffffffffff, but the student has" in line, line
    done = fork_server.run("tasks.running.stage_command", "score", cwd=copy, env={**child_environment(), "PYTHONPATH": str(copy)})
    assert done.returncode == 0 and "[score] no soft targets: the student's tokenizer is not the teacher's" in done.stdout
    assert json.loads((copy / "artifacts/soft_targets/summary.json").read_text())["rows"] == 0
    write_records(copy / "artifacts/validated/kept.parquet", TrainingRow, rows)
    code, line = said("tasks.running.stage_command", "finetune", "kd")
    assert code == 3 and f"{len(rows)} of {len(rows)} kept rows have no soft targets of teacher {rows[0].teacher[:12]}" in line, line


@pytest.mark.cycles
def test_a_terminated_cycle_ends_both_arms_that_it_trains(copy: Path, fork_server: ForkServer, with_prefect: dict[str, str]) -> None:
    """As the Prefect UI cancels a run: SIGTERM to the flow's process, while two stages run side by side, forks of a server that the cycle started."""
    write_params(copy, finetune__common__tokens=400_000)
    with fork_server.start("redistill", "-C", str(copy), "run", env={**with_prefect, SOCKET: ""}) as cycle:
        training: set[str] = set()
        for line in cycle.stdout:
            training |= {arm for arm in ("gold", "sft") if f"[finetune@{arm}]" in line}
            if len(training) == 2:
                break
        started = psutil.Process(cycle.pid).children(recursive=True)
        cycle.terminate()
        rest = cycle.communicate(timeout=60)[0]
    assert cycle.returncode == 143, rest[-2000:]
    assert not psutil.wait_procs(started, timeout=30)[1], "nothing that the cycle started is left"


@pytest.mark.cycles
def test_a_search_that_was_killed_goes_on(copy: Path, redistill: Command, fork_server: ForkServer, with_prefect: dict[str, str]) -> None:
    """Trials are nested runs, the killed one is tried again, and held-out rows are not read."""
    write_params(copy)
    (copy / "artifacts/prompts/heldout.parquet").unlink()
    said: list[str] = []
    with fork_server.start("redistill", "-C", str(copy), "tune", "--trials", "2", env=with_prefect) as process:
        for line in process.stdout:
            said.append(line)
            if "trial 0: alpha" in line:
                break
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == 128 + signal.SIGKILL
    done = redistill(copy, "tune", "--trials", "2", "--json")
    assert done.code == 0, done.stderr[-3000:]
    assert "1 unfinished and run again" in done.stderr, "".join(said)[-2000:]
    assert done.result["trials"] == 2 and done.result["best"]["f1"] > 0 and done.result["f1_now"] is not None
    for value, (low, high) in (
        (done.result["best"]["f1"], done.result["best"]["f1_interval"]),
        (done.result["f1_now"], done.result["f1_now_interval"]),
    ):
        assert low <= value <= high
    assert (copy / "artifacts/tune/patch.yaml").is_file()
    write_params(copy, tune__minutes=0.0001)
    capped = redistill(copy, "tune", "--trials", "9", "--json")
    assert capped.code == 0 and capped.result["trials"] == 2, "no trial begins after its time"
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{copy}/.redistill/mlflow/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    parents, trials = ([r for r in runs if r.data.tags.get("redistill.kind") == kind] for kind in ("tune", "trial"))
    assert len(parents) == 1 and len(trials) == 2
    assert {r.data.tags["mlflow.parentRunId"] for r in trials} == {parents[0].info.run_id}
    assert parents[0].info.status == "FINISHED"
    assert all(r.info.status == "FINISHED" and "learning_rate" in r.data.params for r in trials)


@pytest.mark.cycles
def test_a_changed_alpha_reaches_only_kd_and_a_depth_costs_itself(first: dict[str, Any], tiny_project: Path, redistill: Command) -> None:
    write_params(tiny_project, finetune__arms__kd__alpha=0.7, sweep__layers=["teacher", 1])
    done = redistill(tiny_project, "run", "--json")
    assert done.code == 0, done.stderr[-3000:]
    assert {s for s, o in done.result["stages"].items() if o != "unchanged"} == {
        "finetune@kd",
        "calibrate@kd",
        "benchmark@kd",
        "heldout@kd",
        "sweep@teacher",
        "sweep@1",
    }
    assert done.result["model_version"] == "2"
    teacher, smallest = report(tiny_project)["sweep"]
    assert (teacher["point"], smallest["layers"]) == ("teacher", 1) and smallest["parameters"] < teacher["parameters"]
    assert 0 < smallest["f1_low"] <= smallest["f1"] <= smallest["f1_high"] <= 1
    assert 'id="depths"' in (tiny_project / "artifacts/report/index.html").read_text(encoding="utf-8")


@pytest.mark.cycles
def test_a_changed_teacher_reaches_its_dependants_only(first: dict[str, Any], tiny_project: Path, redistill: Command) -> None:
    write_params(tiny_project)
    quiet = redistill(tiny_project, "watch", "--once", "--json")
    assert quiet.code == 0, quiet.stderr[-3000:]
    assert quiet.result["changed"] is False
    make_tiny_model(tiny_project / "teacher", seed=2)
    # With 65 held-out rows a smaller loss could not be ruled out.
    write_params(tiny_project, tune_teacher__seed=8, promote__new_teacher_margin=0.9)
    seen = redistill(tiny_project, "watch", "--once", "--json")
    assert seen.code == 0, seen.stderr[-3000:]
    assert seen.result["changed"] is True and "new teacher" not in str(seen.result["cycle"]["reasons"])
    stages = seen.result["cycle"]["stages"]
    same = {s for s, o in stages.items() if o == "unchanged"}
    assert same == {"prepare", "benchmark@linear"}, stages


def test_bad_input_is_one_line_and_its_own_exit_code(first: dict[str, Any], tiny_project: Path, redistill: Command) -> None:
    good = (tiny_project / "labelled.jsonl").read_text(encoding="utf-8")
    live = (tiny_project / "artifacts/route/flags.json").read_text(encoding="utf-8")
    (tiny_project / "labelled.jsonl").write_text(good + '{"text": "cut', encoding="utf-8")
    done = redistill(tiny_project, "run")
    (tiny_project / "labelled.jsonl").write_text(good, encoding="utf-8")
    assert done.code == 3, done.stderr[-2000:]
    line = next(x for x in done.stderr.splitlines() if x.startswith("error: "))
    assert f"line {len(good.splitlines()) + 1}" in line
    assert (tiny_project / "artifacts/route/flags.json").read_text(encoding="utf-8") == live
    write_params(tiny_project, governance__licenses=[])
    refused = redistill(tiny_project, "run")
    write_params(tiny_project)
    assert refused.code == 2
    assert "no entry in governance.licenses covers the teacher" in refused.stderr
