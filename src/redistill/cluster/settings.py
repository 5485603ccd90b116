"""Which cluster shares the heavy stages, and how: from the environment, because a stage's result does not depend on it.

In ``params.yaml`` a change of an address or of a number of replicas would make stages run again.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from redistill.errors import ConfigError

ADDRESS = "REDISTILL_RAY_ADDRESS"
REPLICAS = "REDISTILL_REPLICAS"
REPLICA_CPUS, REPLICA_GPUS = "REDISTILL_REPLICA_CPUS", "REDISTILL_REPLICA_GPUS"
TIMEOUT = "REDISTILL_REPLICA_TIMEOUT_S"
TRAIN_NODES, TRAIN_PROCESSES = "REDISTILL_TRAIN_NODES", "REDISTILL_TRAIN_PROCESSES"
_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """A Ray cluster and how its teacher is made of teachers.

    Without ``replicas``: one a GPU, or one a node where there are none. Without ``cpus`` (cores of each replica): all of the smallest node, or one beside a
    GPU. Without ``gpus``: one, where there are any. ``timeout_s`` is how long a replica may be silent before another one does its work.
    """

    address: str
    replicas: int | None = None
    cpus: float | None = None
    gpus: float | None = None
    timeout_s: float = _TIMEOUT_S


def cluster_settings() -> ClusterSettings | None:
    """The cluster that the environment names; None where it names none.

    Raises:
        ConfigError: a variable is not a number, or is out of its range.
    """
    address = os.environ.get(ADDRESS, "").strip()
    if not address:
        return None
    if address.startswith("ray://"):
        raise ConfigError(
            f"{ADDRESS}={address}: Ray's client does not stream results; run redistill on a node of the cluster, and set {ADDRESS}=HOST:6379, or auto"
        )
    replicas = _whole(REPLICAS)
    return ClusterSettings(address, replicas, _number(REPLICA_CPUS), _number(REPLICA_GPUS), _number(TIMEOUT) or _TIMEOUT_S)


def training_nodes() -> int:
    """On how many nodes of the cluster an arm is trained.

    Raises:
        ConfigError: several nodes, but no cluster.
    """
    nodes = _whole(TRAIN_NODES) or 1
    if nodes > 1 and cluster_settings() is None:
        raise ConfigError(f"{TRAIN_NODES}={nodes} needs a Ray cluster; set {ADDRESS} to its address")
    return nodes


def training_processes() -> int | None:
    """How many processes share each batch, over all nodes; None where the environment does not say."""
    return _whole(TRAIN_PROCESSES)


def _whole(name: str) -> int | None:
    value = _number(name)
    if value is not None and (value < 1 or value != int(value)):
        raise ConfigError(f"{name}={os.environ[name]} must be a whole number of at least 1")
    return None if value is None else int(value)


def _number(name: str) -> float | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{name}={text} is not a number") from None
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"{name}={text} must be a number of at least 0")
    return value
