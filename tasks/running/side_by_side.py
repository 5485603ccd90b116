"""Runs stages that do not need each other at the same time, as many as there are cores for.

A small model's training leaves most of a second core idle: two runs of one thread each take less time than two runs of two threads, one after the other
(docs/benchmarks.md). The number of threads is a parameter of the stage, not of the schedule, because it changes how results round.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from redistill.operations.types import StageReceipt
from redistill.runtime.cpu import usable_cores


@dataclass(frozen=True, slots=True)
class QueuedStage:
    """A stage, how many threads it has (None: every core), and the stages that must be done before it."""

    stage: str
    threads: int | None = None
    after: frozenset[str] = frozenset()


def run_side_by_side(
    stages: Sequence[QueuedStage],
    run: Callable[[str], StageReceipt],
    done: Callable[[StageReceipt], None],
    say: Callable[[str], None],
    stop: Callable[[], None],
    cores: int | None = None,
) -> None:
    """Run each stage once, as soon as the stages that it needs are done and enough cores are free; earlier ones in the list first.

    ``done`` gets the receipts as stages end, with each one's part of the machine's time. If a stage fails, the stages that run beside it go on to their end, no other
    starts, and its error is raised. If this thread is interrupted, ``stop`` is called, which must end everything that runs.
    """
    cores = cores or usable_cores()
    waiting, failed = list(stages), list[Exception]()
    running: dict[Future[StageReceipt], QueuedStage] = {}
    machine_s: dict[str, float] = {}

    def give_up(error: Exception) -> None:
        failed.append(error)
        waiting.clear()
        if running:
            say(f"{error}; waiting for {' and '.join(w.stage for w in running.values())} to end")

    with ThreadPoolExecutor(max_workers=len(stages) or 1) as pool:
        try:
            at = time.monotonic()
            while waiting or running:
                for stage in _startable(waiting, running.values(), cores):
                    waiting.remove(stage)
                    # Each thread has its own context variables. Without a copy of ours, a Prefect task would not know its flow run.
                    running[pool.submit(contextvars.copy_context().run, run, stage.stage)] = stage
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                before, at = at, time.monotonic()
                passed, threads = at - before, sum(_threads(w, cores) for w in running.values())
                for stage in running.values():
                    machine_s[stage.stage] = machine_s.get(stage.stage, 0.0) + passed * _threads(stage, cores) / threads
                for future in ended:
                    stage = running.pop(future)
                    try:
                        done(replace(future.result(), machine_s=machine_s[stage.stage]))
                    except Exception as error:
                        give_up(error)
        except BaseException:
            stop()
            raise
    if failed:
        raise failed[0]


def _threads(stage: QueuedStage, cores: int) -> int:
    return min(cores, stage.threads or cores)


def _startable(waiting: Sequence[QueuedStage], running: Collection[QueuedStage], cores: int) -> list[QueuedStage]:
    """The stages that may start now, in order, within the free cores. A stage that is not in this run counts as done."""
    free = cores - sum(_threads(w, cores) for w in running)
    pending = {w.stage for w in waiting} | {w.stage for w in running}
    startable = []
    for stage in waiting:
        if not stage.after & pending and _threads(stage, cores) <= free:
            startable.append(stage)
            free -= _threads(stage, cores)
    return startable
