"""A live champion on a real registry: confirmed, on hold for some nights, and demoted; the count survives crashes, and counts a night once."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from redistill.evaluation.summary import report_from_json, report_to_json
from redistill.evaluation.types import Outcome
from redistill.io.json import read_json, write_json
from redistill.io.parquet import write_records
from redistill.provenance import mlflow_names
from redistill.serving.route_flag import read_route
from redistill.statistics.shares import share
from tasks.promotion import approve
from tasks.promotion.retest_champion import ChampionCheck, retest_champion
from tasks.promotion.route import fall_back_to_teacher
from tasks.registry import hold_counter, transitions
from tasks.registry.history import History
from tests.forks import ForkServer
from tests.integration.conftest import N, Registry

ON_BOTH_BACKINGS = True
Make = Callable[..., Registry]
ROOT = Path(__file__).resolve().parents[2]
RIGHT = 122
"""Rows that the champion has right: the first ones."""


@pytest.fixture
def live(make_registry: Make) -> Registry:
    registry = make_registry()
    approve.promote(registry.params, registry.version(RIGHT, seed=1), "first")
    return registry


def teacher_with(only_champion: int, only_teacher: int) -> None:
    """A new teacher: it is wrong on the first of the champion's right rows, and right on the first of its wrong ones."""
    right = [only_champion <= i < RIGHT + only_teacher for i in range(N)]
    outcomes = [
        Outcome(f"id{i}", f"doc{i}", f"p{i}", "app", "x", "x" if r else "y", r, int(r), int(not r), int(not r)) for i, r in enumerate(right)
    ]
    folder = Path("artifacts/benchmark/teacher")
    report = replace(report_from_json(read_json(folder / "report.json")), exact_match=share(sum(right), N), f1=share(sum(right), N))
    write_json(folder / "report.json", report_to_json(report))
    write_records(folder / "outcomes.parquet", Outcome, outcomes)


UNDECIDED, WORSE, INFERIOR = (60, 60), (20, 40), (10, 60)


def tonight(registry: Registry) -> ChampionCheck:
    """What a cycle does at night."""
    check = retest_champion(registry.params, History())
    assert check is not None
    if not check.trusted:
        fall_back_to_teacher(registry.params, check)
    return check


def a_day_passes(registry: Registry) -> None:
    tag = json.loads(registry.client.get_registered_model(registry.params.data.name).tags[mlflow_names.TAG_HOLD])
    tag["at"] = (dt.datetime.fromisoformat(tag["at"]) - dt.timedelta(days=1)).isoformat()
    registry.client.set_registered_model_tag(registry.params.data.name, mlflow_names.TAG_HOLD, json.dumps(tag))


def answers() -> str:
    return read_route(transitions.FLAGS).answers


def test_a_champion_that_cannot_be_confirmed_keeps_its_traffic(live: Registry) -> None:
    teacher_with(*UNDECIDED)
    for night in (1, 2, 3, 4):
        check = tonight(live)
        assert (check.trusted, check.nights, answers()) == (True, night, "student")
        a_day_passes(live)
    assert f"not shown to be worse than the teacher; night {night} on hold" in check.sentence


def test_one_that_is_shown_to_be_worse_loses_it_after_three_nights_and_gets_it_back_only_when_it_holds(live: Registry) -> None:
    teacher_with(*WORSE)
    for night, left in ((1, "student"), (2, "student"), (3, "teacher")):
        check = tonight(live)
        assert (check.nights, answers()) == (night, left)
        assert tonight(live).nights == night, "asked again in the same night"
        a_day_passes(live)
    teacher_with(*UNDECIDED)
    assert not tonight(live).trusted and answers() == "teacher", "neither shown: what was lost stays lost"
    events = [e for e in transitions.history(live.client, live.params) if e.kind == "distrust"]
    assert len(events) == 1 and "(shown to be worse than the teacher; night 3 on hold)" in events[0].reason
    teacher_with(1, 0)
    check = tonight(live)
    assert check.trusted and check.nights == 0 and hold_counter.read(live.client, live.params) is None


def test_a_loss_that_is_shown_takes_the_traffic_at_once(live: Registry) -> None:
    teacher_with(*INFERIOR)
    assert not tonight(live).trusted and answers() == "teacher"


def test_a_teacher_that_cannot_do_the_task_takes_no_traffic(live: Registry) -> None:
    """Right on 5 of 200 rows: below ``promote.min_teacher`` there is no interval."""
    teacher_with(RIGHT, 5)
    check = tonight(live)
    assert (check.trusted, check.nights, answers()) == (True, 1, "student") and "promote.min_teacher" in check.sentence


def test_a_night_that_holds_starts_the_count_anew(live: Registry) -> None:
    teacher_with(*WORSE)
    tonight(live)
    a_day_passes(live)
    teacher_with(1, 0)
    assert tonight(live).nights == 0
    teacher_with(*WORSE)
    assert tonight(live).nights == 1


def test_another_champion_has_a_count_of_its_own(live: Registry) -> None:
    teacher_with(*WORSE)
    tonight(live)
    a_day_passes(live)
    assert tonight(live).nights == 2
    teacher_with(1, 0)
    approve.promote(live.params, live.version(124, seed=2), "second")
    teacher_with(*UNDECIDED)
    assert tonight(live).nights == 1


CRASH = """
import os, signal, sys
from redistill.params import load_params
from tasks.registry import hold_counter as hold, runs_and_versions as registry
params = load_params()
client = registry.connect(params)
class Dying:
    def __getattr__(self, name):
        found = getattr(client, name)
        if name != "set_registered_model_tag":
            return found
        def write(*a, **k):
            if sys.argv[1] == "after":
                found(*a, **k)
            os.kill(os.getpid(), signal.SIGKILL)
        return write
hold.count_night(Dying(), params, "1")
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_count_survives_a_crash_at_its_write(live: Registry, fork_server: ForkServer, when: str) -> None:
    teacher_with(*WORSE)
    assert tonight(live).nights == 1
    a_day_passes(live)
    Path("crash.py").write_text(CRASH, encoding="utf-8")
    done = fork_server.run("crash", when, env={**os.environ, "PYTHONPATH": str(ROOT)}, server=fork_server.commands)
    assert done.returncode == 128 + signal.SIGKILL, done.stderr[-2000:]
    assert tonight(live).nights == 2, "the cycle that runs again counts this night once"


def test_an_unreadable_count_starts_anew(live: Registry) -> None:
    live.client.set_registered_model_tag(live.params.data.name, mlflow_names.TAG_HOLD, '{"nights": ')
    assert hold_counter.read(live.client, live.params) is None
    teacher_with(*WORSE)
    assert tonight(live).nights == 1
