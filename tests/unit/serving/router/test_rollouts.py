"""The driver of a rollout: minimum time and sample, no false alarms, and a stop when the new version is worse. Time is an argument."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from redistill.serving.params import ServeParams
from redistill.serving.rollout import with_share
from redistill.serving.router.decision import Decision
from redistill.serving.router.rollouts import ALPHA, Rollouts
from redistill.serving.router.shadow import Compared
from redistill.serving.types import Rollout, Route
from redistill.statistics.shares import share_interval
from redistill.statistics.two_shares import larger_share_test, spent
from tests.routers import CASCADE, STUDENT

BEGIN = dt.datetime(2026, 11, 28, 2, 0, tzinfo=dt.UTC)
PARAMS = ServeParams(rollout_steps=(5.0, 50.0, 100.0), rollout_minutes=30.0, rollout_requests=200)


class Trial:
    """A rollout from 7 to 8, and a flag in memory whose times are those of ``now``."""

    def __init__(self, file: Path, params: ServeParams = PARAMS) -> None:
        self.now = BEGIN.timestamp()
        self.route: Route = replace(STUDENT, model_version="8", rollout=Rollout("7", CASCADE, 0.05, BEGIN.isoformat()))
        self.stopped: list[str] = []
        self.driver = Rollouts(file, params, lambda: self.route, self._advance, lambda reason, route: self.stopped.append(reason))

    def _advance(self, seen: Rollout, share: float | None, reason: str) -> None:
        moved = with_share(self.route, seen, share, reason)
        since = dt.datetime.fromtimestamp(self.now, dt.UTC).isoformat()
        self.route = replace(moved, rollout=moved.rollout and replace(moved.rollout, since=since))

    def traffic(self, version: str, requests: int, failing: float = 0.0, differing: float = 0.0, draw: random.Random | None = None) -> None:
        chance = draw or random.Random(1)
        for n in range(requests):
            decision = Decision("student", stream=False, student=version)
            if chance.random() < failing:
                decision.failures.append(("student", "status"))
            self.driver.count(decision)
            if n % 5 == 0:
                self.driver.observe(Compared(str(n), version, float(chance.random() < differing), by_student=True))

    def look(self, minutes: float = 0.0) -> None:
        self.now += 60.0 * minutes
        if (action := self.driver.look(self.now)) is not None:
            action()

    @property
    def share(self) -> float | None:
        return self.route.rollout and self.route.rollout.share


def test_a_step_needs_time_and_requests_and_the_last_one_ends_it(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "rollout.json")
    shares = []
    trial.traffic("8", 199)
    trial.look(60)
    assert trial.share == 0.05, "199 requests are too few"
    trial.traffic("8", 1)
    trial.look()
    shares.append(trial.share)
    trial.traffic("8", 200)
    trial.look(29)
    assert trial.share == 0.5, "29 minutes are too short"
    for _ in range(2):
        trial.look(2)
        shares.append(trial.share)
        trial.traffic("8", 200)
        trial.look(30)
        shares.append(trial.share)
    assert shares == [0.5, 1.0, None, None, None] and not trial.stopped


@pytest.mark.parametrize(
    ("worse", "expected"),
    [({"failing": 0.2}, "it failed on"), ({"differing": 0.4}, "disagrees with the teacher on")],
)
def test_a_worse_version_is_stopped(tmp_path: Path, worse: dict[str, float], expected: str) -> None:
    trial = Trial(tmp_path / "rollout.json")
    trial.traffic("7", 4000, 0.01, 0.02)
    for _ in range(10):
        trial.traffic("8", 50, **worse)
        trial.look(5)
        if trial.stopped:
            break
    assert expected in trial.stopped[0] and "version 8 was stopped at 5%" in trial.stopped[0] and trial.share == 0.05


def test_one_failure_at_low_traffic_and_failures_of_both_stop_nothing(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "rollout.json")
    trial.traffic("8", 5, failing=1.0)
    trial.look(60)
    assert not trial.stopped, "five failures in a row are the breaker's"
    both = Trial(tmp_path / "both.json")
    for _ in range(20):
        both.traffic("7", 500, 0.3, 0.1, random.Random(2))
        both.traffic("8", 50, 0.3, 0.1, random.Random(3))
        both.look()
    assert not both.stopped


def test_false_alarms_are_as_rare_as_they_should_be(tmp_path: Path) -> None:
    draw, alarms = random.Random(7), 0
    for _ in range(200):
        trial = Trial(tmp_path / "never-written.json")
        for _ in range(12):
            trial.traffic("7", 200, 0.05, 0.05, draw)
            trial.traffic("8", 50, 0.05, 0.05, draw)
            trial.look()
        alarms += bool(trial.stopped)
    assert alarms <= 16, "5 % of 200, and three standard deviations"


@pytest.mark.parametrize(("failing", "old_requests"), [(0.06, 8), (0.1, 0)])
def test_false_alarms_are_rare_also_where_the_version_before_has_had_few_requests(
    tmp_path: Path, failing: float, old_requests: int
) -> None:
    draw, alarms, trials = random.Random(11), 0, 300
    for _ in range(trials):
        trial = Trial(tmp_path / "never-written.json")
        for _ in range(10):
            trial.traffic("7", old_requests, failing, 0.05, draw)
            trial.traffic("8", 50, failing, 0.05, draw)
            trial.look()
        alarms += bool(trial.stopped)
    assert share_interval(alarms, trials, 0.05).low <= ALPHA, f"{alarms} of {trials} rollouts of two equal versions were stopped"


def test_a_version_that_fails_often_is_stopped_without_the_one_before_and_the_reason_names_the_limit(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "rollout.json")
    trial.traffic("7", 12)
    trial.traffic("8", 100, failing=0.4)
    trial.look()
    [reason] = trial.stopped
    assert "more than the limit of 10% (p " in reason and "version 7 has had only 12 requests" in reason


def test_a_restart_continues_and_another_pair_begins_again(tmp_path: Path) -> None:
    file = tmp_path / "rollout.json"
    first = Trial(file)
    first.traffic("7", 100)
    first.traffic("8", 150)
    first.look(10)
    first.driver._save(asdict(first.driver.state))
    again = Trial(file)
    again.traffic("8", 50)
    again.look(31)
    assert again.share == 0.5 and again.driver.state.old.requests == 100
    other = Trial(file)
    other.route = replace(other.route, model_version="9")
    other.traffic("9", 10)
    assert other.driver.state.new.requests == 10
    file.write_text('{"versions": 3}', encoding="utf-8")
    broken = Trial(file)
    broken.traffic("8", 10)
    assert broken.driver.state.new.requests == 10


def test_a_stopped_rollout_and_other_traffic_do_nothing(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "rollout.json")
    assert trial.route.rollout is not None
    trial.route = replace(trial.route, rollout=replace(trial.route.rollout, share=0.0))
    trial.traffic("8", 500, failing=1.0)
    trial.traffic("6", 500, failing=1.0)
    trial.traffic("", 500, failing=1.0)
    trial.look(600)
    assert not trial.stopped and trial.share == 0.0 and trial.driver.state.new.requests == 500


@pytest.mark.parametrize(
    ("reason", "failed"), [("malformed", True), ("cut-off", True), ("student-down", True), ("unsure", False), ("sure", False)]
)
def test_what_counts_as_a_failure(reason: str, failed: bool) -> None:
    assert Decision("cascade", stream=False, reason=reason).student_failed == failed


def test_the_test_of_two_shares_agrees_with_scipy() -> None:
    from scipy.stats import fisher_exact

    draw = random.Random(3)
    cases: list[tuple[int, int, int, int]] = [(0, 5, 0, 5), (5, 5, 0, 5), (3, 50, 1, 950), (40, 400, 100, 4000)]
    cases += [(draw.randint(0, n), n, draw.randint(0, m), m) for n, m in ((7, 90), (60, 60), (300, 20))]
    for a, n, b, m in cases:
        expected = fisher_exact([[a, n - a], [b, m - b]], alternative="greater").pvalue
        assert larger_share_test(a, n, b, m) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert larger_share_test(3, 3, 0, 0) == 1.0
    total: Callable[[int], float] = lambda looks: sum(spent(0.05, k) for k in range(1, looks + 1))  # noqa: E731
    assert total(1000) < 0.05
