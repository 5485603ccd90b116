"""A Ray cluster of several nodes on this machine, and workers whose items say what happens to them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from redistill.cluster.connection import connected
from redistill.cluster.pool import Replicas
from redistill.cluster.settings import ClusterSettings
from redistill.errors import DataError
from tests.box import wait_for
from tests.tiny_project import ROOT

_STORE_BYTES = 100 << 20
NODE = {"num_cpus": 1, "object_store_memory": _STORE_BYTES}


@contextlib.contextmanager
def ray_cluster(nodes: int = 2, cpus: int = 1) -> Iterator[Any]:
    """Processes of real nodes on this machine; ended at the end."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": cpus, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**{**NODE, "num_cpus": cpus})
        yield cluster
    finally:
        cluster.shutdown()


@contextlib.contextmanager
def replicas(cluster: Any, make: Any = None, code: Any = None, **settings: Any) -> Iterator[Replicas]:
    with pytest.MonkeyPatch.context() as environment:
        # As a stage has it, so that replicas can import the workers of this file.
        environment.setenv("PYTHONPATH", str(ROOT))
        with connected(ClusterSettings(cluster.address, **settings)) as ray:
            pool = Replicas(ray, ClusterSettings(cluster.address, **settings), "stage", make or Doing, code or the_same)
            try:
                yield pool
            finally:
                pool.close()


def the_same() -> str:
    return "the same code"


def of_this_process() -> str:
    return str(os.getpid())


class Doing:
    """An item is text: what to do, then ``:`` and a file. Its result is the text and the process that worked on it."""

    def work(self, items: Sequence[str]) -> Iterator[tuple[int, tuple[str, int]]]:
        for place, item in enumerate(items):
            action, _, file = item.partition(":")
            if action == "end":
                os.kill(os.getpid(), signal.SIGKILL)
            if action == "hang once" and not Path(file).exists():
                Path(file).touch()
                time.sleep(600)
            if action == "wait":
                with contextlib.suppress(FileExistsError), Path(f"{file}.pid").open("x") as first:
                    first.write(str(os.getpid()))
                wait_for(Path(file).exists)
            if action == "bad row":
                raise DataError(f"row {file} is bad")
            if action == "bug":
                raise KeyError(file)
            yield place, (item, os.getpid())


class Unready:
    """Ends before it is ready."""

    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def work(self, items: Sequence[str]) -> Iterator[tuple[int, Any]]:
        yield from ()
