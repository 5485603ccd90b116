"""Stages side by side: what starts when, whose time it was, and what a failure or an interruption does to the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from redistill.errors import StageError
from redistill.operations.types import StageReceipt
from tasks.running.side_by_side import QueuedStage, run_side_by_side

WAIT_S = 20.0


class Stages:
    """Stages that end when they are told to; knows what runs now."""

    def __init__(self, free: tuple[str, ...] = ()) -> None:
        self.order: list[str] = []
        self.said: list[str] = []
        self.receipts: list[StageReceipt] = []
        self.ends = {name: threading.Event() for name in free}
        self._changed = threading.Condition()
        self._failing: set[str] = set()

    def run(self, stage: str) -> StageReceipt:
        with self._changed:
            self.order.append(stage)
            self._changed.notify_all()
        if stage in self.ends:
            assert self.ends[stage].wait(WAIT_S)
        if stage in self._failing:
            raise StageError(f"stage {stage} failed: no rows", stage, 4, ())
        return StageReceipt(stage, "ran", {}, 1.0)

    def fail(self, stage: str) -> None:
        self._failing.add(stage)
        self.ends[stage].set()

    def until(self, *order: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.order) >= len(order), WAIT_S), self.order
        assert sorted(self.order) == sorted(order)

    def start(self, stages: list[QueuedStage], cores: int, stop: Callable[[], None] = lambda: None) -> Background:
        return Background(lambda: run_side_by_side(stages, self.run, self.receipts.append, self.said.append, stop, cores))


class Background(threading.Thread):
    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work, self.error = work, None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error

    def ended(self) -> BaseException | None:
        self.join(WAIT_S)
        assert not self.is_alive()
        return self.error


def test_as_many_run_at_once_as_fit_on_the_cores_and_a_stage_waits_for_what_it_needs() -> None:
    stages = Stages(("a", "b", "c"))
    wanted = [
        QueuedStage("a", 1),
        QueuedStage("b", 1),
        QueuedStage("c", 1),
        QueuedStage("on a", 1, frozenset({"a"})),
        QueuedStage("whole machine"),
    ]
    working = stages.start(wanted, cores=2)
    stages.until("a", "b")
    stages.ends["b"].set()
    stages.until("a", "b", "c")
    stages.ends["a"].set()
    stages.until("a", "b", "c", "on a")
    stages.ends["c"].set()
    assert working.ended() is None
    assert stages.order[-1] == "whole machine", "what has every core starts when nothing else runs"
    assert len(stages.receipts) == len(wanted)


def test_one_after_the_other_where_each_has_every_core() -> None:
    stages = Stages()
    assert stages.start([QueuedStage(name) for name in "abc"], cores=2).ended() is None
    assert stages.order == ["a", "b", "c"]


def test_more_threads_than_cores_are_all_cores() -> None:
    stages = Stages()
    assert stages.start([QueuedStage("a", 64), QueuedStage("b", 1)], cores=2).ended() is None
    assert stages.order == ["a", "b"]


def test_what_a_stage_needs_that_is_not_part_of_this_run_is_there_already() -> None:
    stages = Stages()
    assert stages.start([QueuedStage("benchmark@base", 1, frozenset({"finetune@base"}))], cores=2).ended() is None
    assert stages.order == ["benchmark@base"]


def test_seconds_of_the_machine_are_shared_by_threads_and_add_up() -> None:
    stages = Stages(("a", "b"))
    begun = time.monotonic()
    working = stages.start([QueuedStage("a", 1), QueuedStage("b", 3)], cores=4)
    stages.until("a", "b")
    stages.ends["a"].set()
    while not stages.receipts and working.is_alive():
        working.join(0.01)
    stages.ends["b"].set()
    assert working.ended() is None
    cost = {r.stage: r.cost_s for r in stages.receipts}
    assert cost["b"] >= 3 * cost["a"] > 0
    assert sum(cost.values()) <= time.monotonic() - begun


def test_beside_a_failure_the_others_end_and_nothing_new_starts() -> None:
    stages = Stages(("a", "b"))
    working = stages.start([QueuedStage("a", 1), QueuedStage("b", 1), QueuedStage("c", 1)], cores=2)
    stages.until("a", "b")
    stages.fail("a")
    while not stages.said and working.is_alive():
        working.join(0.01)
    stages.ends["b"].set()
    assert isinstance(error := working.ended(), StageError)
    assert str(error) == "stage a failed: no rows"
    assert stages.said == ["stage a failed: no rows; waiting for b to end"]
    assert [r.stage for r in stages.receipts] == ["b"], "what was done is kept"
    assert "c" not in stages.order


def test_an_interruption_ends_what_runs() -> None:
    stages = Stages(("a",))

    def done(_: StageReceipt) -> None:
        raise KeyboardInterrupt

    interrupted = Background(
        lambda: run_side_by_side([QueuedStage("b", 1), QueuedStage("a", 1)], stages.run, done, stages.said.append, stages.ends["a"].set, 2)
    )
    assert isinstance(interrupted.ended(), KeyboardInterrupt)
