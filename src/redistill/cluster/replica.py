"""A replica: a process on some node of the cluster that makes its worker once, and then works on chunks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from redistill.cluster.connection import this_node
from redistill.cluster.types import ReplicaFacts, Worker
from redistill.errors import DataError
from redistill.runtime import environment

_TOGETHER = 16
"""Results that are sent at once: one message each would cost more than a short completion."""


class Replica:
    """Runs as a Ray actor. It is trivial to create, so that an error of ``start`` comes back as the error that it is."""

    def __init__(self) -> None:
        self._worker: Worker[Any, Any] | None = None

    def start(self, folder: Path, make: Callable[[], Worker[Any, Any]], code: Callable[[], str]) -> ReplicaFacts:
        """Make the worker in the project's folder.

        Raises:
            DataError: this node does not have the folder.
        """
        node = this_node()
        environment.silence()
        if not folder.is_dir():
            raise DataError(f"node {node} has no folder {folder}; every node needs the project there, for example on a shared file system")
        os.chdir(folder)
        facts = ReplicaFacts(node, code())
        self._worker = make()
        return facts

    def work(self, items: Sequence[Any]) -> Iterator[list[tuple[int, Any]]]:
        """The results of the items, several at a time, each with its place in ``items``."""
        assert self._worker is not None
        together: list[tuple[int, Any]] = []
        for result in self._worker.work(items):
            together.append(result)
            if len(together) >= _TOGETHER:
                yield together
                together = []
        if together:
            yield together
