"""The cluster is named by the environment, and a wrong value is one line."""

from __future__ import annotations

import pytest

from redistill.cluster.settings import ClusterSettings, cluster_settings, training_nodes, training_processes
from redistill.errors import ConfigError


def test_without_an_address_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDISTILL_RAY_ADDRESS", raising=False)
    assert cluster_settings() is None and training_nodes() == 1 and training_processes() is None


def test_all_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "RAY_ADDRESS": "head:6379",
        "REPLICAS": "8",
        "REPLICA_CPUS": "2.5",
        "REPLICA_GPUS": "0.5",
        "REPLICA_TIMEOUT_S": "60",
        "TRAIN_NODES": "2",
        "TRAIN_PROCESSES": "4",
    }.items():
        monkeypatch.setenv(f"REDISTILL_{name}", value)
    assert cluster_settings() == ClusterSettings("head:6379", 8, 2.5, 0.5, 60.0)
    assert (training_nodes(), training_processes()) == (2, 4)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("RAY_ADDRESS", "ray://head:10001", "Ray's client does not stream results"),
        ("REPLICAS", "two", "REDISTILL_REPLICAS=two is not a number"),
        ("REPLICAS", "0", "must be a whole number of at least 1"),
        ("REPLICAS", "1.5", "must be a whole number"),
        ("REPLICA_GPUS", "-1", "must be a number of at least 0"),
        ("REPLICA_CPUS", "nan", "must be a number"),
        ("REPLICA_TIMEOUT_S", "soon", "is not a number"),
    ],
)
def test_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str) -> None:
    monkeypatch.setenv("REDISTILL_RAY_ADDRESS", "head:6379")
    monkeypatch.setenv(f"REDISTILL_{name}", value)
    with pytest.raises(ConfigError, match=reason):
        cluster_settings()


def test_several_nodes_need_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDISTILL_RAY_ADDRESS", raising=False)
    monkeypatch.setenv("REDISTILL_TRAIN_NODES", "2")
    with pytest.raises(ConfigError, match="needs a Ray cluster"):
        training_nodes()
