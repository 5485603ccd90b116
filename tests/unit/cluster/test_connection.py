"""What a replica gets of this environment."""

from __future__ import annotations

import pytest

from redistill.cluster.connection import environment_of_replicas


def test_no_secret_leaves_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = (
        "REDISTILL_TEACHER_API_KEY",
        "REDISTILL_SIGNING_KEY",
        "HF_HUB_TOKEN",
        "REDISTILL_WARM",
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_TRACKING_PASSWORD",
    )
    for name in (*kept, "NCCL_SOCKET_IFNAME", "REDISTILL_TRAIN_INPUTS"):
        monkeypatch.setenv(name, "x")
    passed = environment_of_replicas()
    assert not set(kept) & set(passed)
    assert passed["NCCL_SOCKET_IFNAME"] == passed["REDISTILL_TRAIN_INPUTS"] == "x" and passed["DO_NOT_TRACK"] == "1"
