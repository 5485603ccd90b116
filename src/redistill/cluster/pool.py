"""Replicas of one worker on a Ray cluster. The driver hands out chunks and collects results; what it writes does not depend on who worked.

A replica that ends, or is silent for too long, is replaced, and others do its open items. Its replacement gets work after it has answered a first call; one
that waits for room in the cluster starts when a node joins. Ray's own restarts are not used: they would send work to a replica that loads its weights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.cluster.chunks import Chunk, Chunks
from redistill.cluster.replica import Replica
from redistill.cluster.settings import ADDRESS, REPLICA_CPUS, REPLICA_GPUS, TIMEOUT, ClusterSettings
from redistill.cluster.types import Lost, ReplicaFacts, Worker
from redistill.errors import RedistillError, TeacherError, one_line

_LOOK_EVERY_S = 5.0
_STARTS = 3
"""A replica that ended so often before it was ready is not started again."""


@dataclass(eq=False, slots=True)
class _Member:
    """One replica. ``pending`` is the answer to its first call, later the stream of a chunk's results, None while it has no work."""

    name: str
    actor: Any
    pending: Any
    heard_s: float
    facts: ReplicaFacts | None = None
    chunk: Chunk | None = None
    failed_starts: int = 0


class Replicas:
    """Works on items with all replicas that the cluster has room for. Use one at a time, and close it."""

    def __init__(
        self, ray: Any, settings: ClusterSettings, stage: str, make: Callable[[], Worker[Any, Any]], code: Callable[[], str]
    ) -> None:
        """Start the replicas.

        Args:
            stage: what progress lines begin with.
            make: makes the worker, in the replica's process; sent there by name, so it must be importable.
            code: says which code runs, here and in the replica; both must say the same.
        """
        self._ray, self._settings, self._stage = ray, settings, stage
        self._make, self._code, self._expected = make, code, code()
        count, self._options = _shape(ray, settings)
        self._members = [self._started(str(number + 1)) for number in range(count)]
        self._reason = ""

    def results(self, items: Sequence[Any], largest: int, smallest: int, ahead: int | None = None) -> Iterator[tuple[int, Any]]:
        """Yield the result of each item with its place, in any order; ``Lost`` for one on which replicas ended again and again.

        Args:
            largest, smallest: items of a chunk.
            ahead: how many items behind the first open one may be started, for a caller that has to keep them until their turn.

        Raises:
            RedistillError: what a worker raised.
            TeacherError: no replica is left, or none started in time.
        """
        chunks, open_places = Chunks(len(items), largest, smallest, len(self._members)), _Open(len(items))
        while open_places:
            for member in self._members:
                if member.facts is not None and member.chunk is None:
                    self._hand_out(member, chunks, items, None if ahead is None else open_places.first + ahead)
            for place, result in self._heard(chunks):
                open_places.close(place)
                yield place, result

    def close(self) -> None:
        for member in self._members:
            self._ray.kill(member.actor)

    def _started(self, name: str, failed_starts: int = 0) -> _Member:
        actor = (
            self._ray.remote(Replica).options(max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD", **self._options).remote()
        )
        return _Member(name, actor, actor.start.remote(Path.cwd(), self._make, self._code), time.monotonic(), failed_starts=failed_starts)

    def _hand_out(self, member: _Member, chunks: Chunks, items: Sequence[Any], before: int | None) -> None:
        if (chunk := chunks.take(before)) is not None:
            member.chunk, member.heard_s = chunk, time.monotonic()
            member.pending = member.actor.work.options(num_returns="streaming").remote([items[place] for place in chunk.open])
            chunk.places, chunk.done = chunk.open, set()

    def _heard(self, chunks: Chunks) -> Iterator[tuple[int, Any]]:
        """Wait until a replica returns something, or for a few seconds; then look for replicas that have been silent for too long."""
        by_pending = {member.pending: member for member in self._members if member.pending is not None}
        if by_pending:
            self._ray.wait(list(by_pending), num_returns=1, timeout=_LOOK_EVERY_S)
            # All that are ready: the first one alone would always be the same replica while it is fast.
            for pending in self._ray.wait(list(by_pending), num_returns=len(by_pending), timeout=0)[0]:
                yield from self._result_of(by_pending[pending], chunks)
        yield from self._without_news(chunks)

    def _result_of(self, member: _Member, chunks: Chunks) -> Iterator[tuple[int, Any]]:
        chunk, results = member.chunk, list[tuple[int, Any]]()
        try:
            if chunk is None:
                self._join(member, self._ray.get(member.pending))
                return
            results = [(chunk.places[place], result) for place, result in self._ray.get(next(member.pending))]
        except StopIteration:
            member.pending = member.chunk = None
            if chunk is not None and chunk.open:
                yield from self._replace(member, chunks, chunk, "it returned too few results")
            return
        except self._ray.exceptions.RayTaskError as error:
            raise _raised_by_worker(error, self._node(member)) from None
        except self._ray.exceptions.RayError as error:
            yield from self._replace(member, chunks, chunk, one_line(error))
            return
        member.heard_s = time.monotonic()
        assert chunk is not None
        chunk.done.update(place for place, _ in results)
        yield from results

    def _join(self, member: _Member, facts: ReplicaFacts) -> None:
        if facts.code != self._expected:
            raise TeacherError(
                f"node {facts.node} runs other code or other package versions than this one, so its results could differ; "
                "install the same version of redistill on every node"
            )
        self._print(f"replica {member.name} on node {facts.node} is ready after {time.monotonic() - member.heard_s:.0f} s")
        member.facts, member.pending, member.failed_starts, member.heard_s = facts, None, 0, time.monotonic()

    def _replace(self, member: _Member, chunks: Chunks, chunk: Chunk | None, reason: str) -> Iterator[tuple[int, Any]]:
        """Start another replica in place of one that ended. Yields the places that are lost."""
        self._reason = reason
        at = self._node(member)
        self._ray.kill(member.actor)
        failed = member.failed_starts + (member.facts is None)
        self._members.remove(member)
        again = "another one is started" if failed < _STARTS else "it is not started again"
        rows = f"; its {len(chunk.open)} open items go to the others" if chunk is not None else ""
        self._print(f"replica {member.name}{at} ended ({reason}); {again}{rows}")
        if failed < _STARTS:
            self._members.append(self._started(member.name, failed))
        if chunk is not None:
            for place in chunks.give_back(chunk):
                yield place, Lost(reason)
        if not self._members:
            raise TeacherError(f"no replica is left: each ended {_STARTS} times before it was ready; the last one: {reason}")

    def _without_news(self, chunks: Chunks) -> Iterator[tuple[int, Any]]:
        now, limit = time.monotonic(), self._settings.timeout_s
        for member in [m for m in self._members if m.chunk is not None and now - m.heard_s > limit]:
            yield from self._replace(member, chunks, member.chunk, f"it was silent for {TIMEOUT}={limit:g} seconds")
        if all(member.facts is None and now - member.heard_s > limit for member in self._members):
            free = {kind: value for kind, value in self._ray.available_resources().items() if kind in ("CPU", "GPU")}
            raise TeacherError(
                f"no replica started within {TIMEOUT}={limit:g} seconds; each needs {_needs(self._options)}, and the cluster has {_needs(free) or 'nothing'} free; "
                f"lower {REPLICA_CPUS} or {REPLICA_GPUS}, add a node, or end what else runs there"
                + (f" (the last one ended: {self._reason})" if self._reason else "")
            )

    def _node(self, member: _Member) -> str:
        return f" on node {member.facts.node}" if member.facts is not None else ""

    def _print(self, line: str) -> None:
        print(f"[{self._stage}] {line}", file=sys.stderr, flush=True)


class _Open:
    """The places without a result."""

    def __init__(self, count: int) -> None:
        self._open, self.first, self._count = set(range(count)), 0, count

    def __bool__(self) -> bool:
        return bool(self._open)

    def close(self, place: int) -> None:
        self._open.discard(place)
        while self.first < self._count and self.first not in self._open:
            self.first += 1


def _shape(ray: Any, settings: ClusterSettings) -> tuple[int, dict[str, float]]:
    """How many replicas, and what each takes of its node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus_in_all = int(sum(node.get("GPU", 0) for node in nodes))
    gpus = settings.gpus if settings.gpus is not None else min(1, gpus_in_all)
    with_cores = [node["CPU"] for node in nodes if node.get("CPU", 0) >= 1]
    cpus = settings.cpus if settings.cpus is not None else 1 if gpus else min(with_cores, default=1)
    count = settings.replicas or (int(gpus_in_all / gpus) if gpus else len(with_cores)) or 1
    return count, {"num_cpus": cpus, "num_gpus": gpus}


def _needs(resources: dict[str, float]) -> str:
    named = {name.removeprefix("num_").removesuffix("s").upper(): value for name, value in resources.items()}
    return ", ".join(f"{value:g} {name}" for name, value in named.items() if value)


def _raised_by_worker(error: Any, node: str) -> RedistillError:
    """What the worker raised; of an error that is not ours one line, because the rest is in Ray's logs."""
    cause = error.cause
    if isinstance(cause, RedistillError):
        return cause
    return TeacherError(
        f"a replica{node} failed: {one_line(cause)}; Ray's logs on that node have the rest; without {ADDRESS} the stage runs in one process"
    )
