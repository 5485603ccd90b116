"""The heavy stages on a Ray cluster of two nodes: the files of one process, whatever ends on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from redistill.io.digests import tree_digest
from redistill.io.parquet import read_records
from redistill.runtime.environment import child_environment
from redistill.runtime.precision import multiplies_bf16
from redistill.teacher.types import TeacherCompletion
from tests.box import wait_for
from tests.clusters import ray_cluster
from tests.cycles import Command, FirstCycle, user_environment
from tests.tiny_project import write_params

pytestmark = pytest.mark.cycles
LIMIT_S = 240.0
# What is beside a row in its batch changes its last bits, and those of bfloat16 are larger: a processor with AVX-512 computes in it.
LOGPROB, WEIGHT = (1e-2, {"rtol": 2**-6, "atol": 2**-6}) if multiplies_bf16() else (1e-4, {"rtol": 5e-3, "atol": 1e-3})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster() as two_nodes:
        yield two_nodes


@pytest.fixture
def project(first_cycle: FirstCycle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(first_cycle.finished, tmp_path / "project", symlinks=True))


def stage(
    project: Path, *command: str, during: Callable[[subprocess.Popen[str]], Any] | None = None, **environment: str
) -> tuple[int, str]:
    """Exit code and stderr of a stage. ``during`` is called while it runs."""
    env = {**child_environment(), **user_environment(), "PYTHONPATH": f"{project}{os.pathsep}{project / 'src'}", "OMP_NUM_THREADS": "1"}
    with (project / "stderr.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.running.stage_command", *command],
            cwd=project,
            env={**env, **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            if during is not None:
                during(process)
            out, _ = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    return process.returncode, out + (project / "stderr.txt").read_text(encoding="utf-8")


def heard(project: Path) -> str:
    return (project / "stderr.txt").read_text(encoding="utf-8")


def replicas_now() -> list[psutil.Process]:
    """Processes that are a replica now."""
    return [p for p in psutil.process_iter(["cmdline"]) if any("ray::Replica" in word for word in p.info["cmdline"] or ())]


def test_completions_and_soft_targets_are_those_of_one_process(cluster: Any, project: Path, redistill: Command) -> None:
    on_cluster = {"REDISTILL_RAY_ADDRESS": cluster.address}
    completions, targets = project / "artifacts/completions", project / "artifacts/soft_targets"
    alone, scored = read_records(completions / "completions.parquet", TeacherCompletion), tree_digest(targets)
    (project / ".redistill/store/completions.sqlite").unlink()
    for folder in (completions, targets):
        shutil.rmtree(folder)

    def kill_the_first(process: subprocess.Popen[str]) -> None:
        wait_for(lambda: "is ready" in heard(project) or process.poll() is not None)
        assert process.poll() is None, heard(project)
        replicas_now()[0].kill()

    code, said = stage(project, "generate", during=kill_the_first, **on_cluster)
    assert code == 0, said[-3000:]
    assert "asked the teacher" in said and "; 0 rows (0 tokens) were in the store" in said
    asked = read_records(completions / "completions.parquet", TeacherCompletion)
    for one, other in zip(alone, asked, strict=True):
        assert dataclasses.replace(other, mean_logprob=one.mean_logprob) == one, "a replica was killed, and the completions are the same"
        assert other.mean_logprob == pytest.approx(one.mean_logprob, abs=LOGPROB)
    code, said = stage(project, "score", **on_cluster)
    assert code == 0, said[-3000:]
    assert said.count("is ready after") >= 1
    assert tree_digest(targets) == scored, "the same batches, so the same bits"
    assert not replicas_now(), "replicas end with their stage"


def test_two_nodes_train_what_one_process_trains(cluster: Any, project: Path) -> None:
    two = {"REDISTILL_RAY_ADDRESS": cluster.address, "REDISTILL_TRAIN_NODES": "2", "REDISTILL_TRAIN_PROCESSES": "2"}
    students = project / "artifacts/students"
    weights, lines = load_file(students / "kd/model.safetensors"), metrics(students)
    shutil.rmtree(students / "kd")
    write_params(project, finetune__common__save_every_steps=5)

    def kill_a_rank(process: subprocess.Popen[str]) -> None:
        work = project / ".redistill/work"
        wait_for(lambda: list(work.glob("finetune-kd*/**/trainer_state.json")) or process.poll() is not None, LIMIT_S)
        assert process.poll() is None, heard(project)
        ranks = [p for p in psutil.process_iter(["cmdline", "environ"]) if (p.info["environ"] or {}).get("RANK") == "1"]
        ranks[-1].send_signal(signal.SIGKILL)

    code, said = stage(project, "finetune", "kd", during=kill_a_rank, **two)
    last = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 3 and len(last) == 1 and "run again: training continues from its last checkpoint" in last[0], said[-3000:]
    assert not (students / "kd").exists()
    code, said = stage(project, "finetune", "kd", **two)
    assert code == 0 and "continues: from checkpoint-" in said, said[-3000:]
    # A line has the mean since the line before; the first one after the checkpoint has fewer steps.
    resumed = {line["step"]: line["loss"] for line in metrics(students)[1:]}
    whole = {line["step"]: line["loss"] for line in lines}
    assert resumed and resumed == pytest.approx({step: whole[step] for step in resumed}, rel=1e-3)
    for name, value in load_file(students / "kd/model.safetensors").items():
        torch.testing.assert_close(value, weights[name], **WEIGHT, msg=lambda text, name=name: f"{name}: {text}")


def metrics(students: Path) -> list[dict[str, Any]]:
    lines = (students / "kd.metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if "kl_nats_per_token" in line]


def test_what_cannot_work_is_one_line(cluster: Any, project: Path) -> None:
    code, said = stage(project, "finetune", "kd", REDISTILL_TRAIN_NODES="2")
    assert code == 2 and "REDISTILL_TRAIN_NODES=2 needs a Ray cluster" in said
    address = {"REDISTILL_RAY_ADDRESS": cluster.address}
    code, said = stage(project, "finetune", "kd", **address, REDISTILL_TRAIN_NODES="3", REDISTILL_TRAIN_PROCESSES="3")
    assert code == 2 and "training on 3 nodes, but the Ray cluster has 2" in said, said
    code, said = stage(project, "finetune", "kd", **address, REDISTILL_TRAIN_NODES="2", REDISTILL_TRAIN_PROCESSES="3")
    assert code == 2 and "3 processes cannot be shared by REDISTILL_TRAIN_NODES=2 nodes" in said, said
    (project / ".redistill/store/completions.sqlite").unlink()
    code, said = stage(project, "generate", REDISTILL_RAY_ADDRESS="127.0.0.1:1")
    assert code == 2 and "no Ray cluster answers at REDISTILL_RAY_ADDRESS=127.0.0.1:1" in said and "Traceback" not in said, said


def test_an_estimate_is_stretched_from_what_was_measured(project: Path, redistill: Command) -> None:
    done = redistill(project, "estimate", "--rows", "10000000", "--replicas", "8", "--json")
    assert done.code == 0, done.stderr
    result = done.result
    assert result["factor"] == pytest.approx(10_000_000 / result["measured_rows"], rel=0.01)
    seconds = json.loads((project / ".redistill/stage_seconds.json").read_text())
    assert result["seconds"]["prepare"] == pytest.approx(seconds["prepare"] * 10_000_000 / result["measured_rows"], rel=0.01)
    assert result["seconds"]["finetune@kd"] == pytest.approx(seconds["finetune@kd"], abs=0.1)
    one = redistill(project, "estimate", "--rows", "10000000", "--json").result
    assert one["seconds"]["generate"] > 7 * result["seconds"]["generate"] and one["machine_hours"] < 1.2 * result["machine_hours"]
    text = redistill(project, "estimate", "--rows", "10000000", "--replicas", "8").stdout
    assert "10,000,000 completions" in text and "that 8 replicas are 8 times as fast is an assumption" in text
    refused = redistill(project, "estimate", "--replicas", "8")
    assert refused.code == 2 and "--replicas needs --rows" in refused.stderr
    (project / ".redistill/stage_seconds.json").unlink()
    unknown = redistill(project, "estimate", "--rows", "1000")
    assert unknown.code == 3 and "run a whole cycle first" in unknown.stderr
