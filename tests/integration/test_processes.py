"""Data parallel over two processes: the losses and weights of one process (KD rule 2), and one clear line where it cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.running.fork_request import SOCKET
from tests.forks import ForkServer
from tests.tiny import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node=2"]


TRAINED = ("logit", "online", "logit+lora")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> tuple[Path, Path]:
    """Everything trained in one process, and in two; processes that start once for all of it, since their imports take longer than the training."""
    folder = tmp_path_factory.mktemp("processes")
    student = make_tiny_model(folder / "student", layers=2, seed=5)
    teacher = make_tiny_model(folder / "teacher", layers=3, seed=1)
    one, two = folder / "one", folder / "two"
    alone = fork_server.run("tests.train_tiny", str(student), str(teacher), str(one), *TRAINED, cwd=ROOT)
    assert alone.returncode == 0, alone.stderr[-3000:]
    command = [sys.executable, *TORCHRUN, "-m", "tests.in_fork", "tests.train_tiny", str(student), str(teacher), str(two), *TRAINED]
    # As the stage does it: what torchrun starts are forks too.
    environment = {**os.environ, SOCKET: fork_server.stages}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return one, two


@pytest.mark.parametrize("trained", TRAINED)
def test_two_processes_train_what_one_trains(folders: tuple[Path, Path], trained: str) -> None:
    logs = []
    for folder in folders:
        lines = (folder / trained / "work" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        logs.append([json.loads(line) for line in lines if "kl_nats_per_token" in line])
    for one, two in zip(*logs, strict=True):
        for key in ("loss", "kl_nats_per_token", "cross_entropy_nats_per_token", "kd_tokens", "text_tokens", "grad_norm"):
            assert one[key] == pytest.approx(two[key], rel=1e-4), key
    one, two = (load_file(folder / trained / "weights.safetensors") for folder in folders)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}")
