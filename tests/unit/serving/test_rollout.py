"""What the flag says during a rollout, and that a flag with half of one is not trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redistill.errors import ConfigError
from redistill.serving.rollout import moved_by_hand, next_share, started, with_share
from redistill.serving.route_flag import FLAG, flag_file, read_route, to_teacher, to_version, write_route
from redistill.serving.types import Rollout, Route
from tests.routers import CASCADE, STUDENT, SURE, TEACHER

STEPS = (5.0, 50.0, 100.0)
NEW = replace(STUDENT, model_version="8")


def under_way(share: float = 0.05) -> Route:
    return replace(NEW, rollout=Rollout("7", CASCADE, share, "2026-11-28T02:00:00+00:00"))


def test_a_promotion_begins_with_the_first_step_where_a_version_was_live() -> None:
    route = started(NEW, SURE, STEPS)
    assert route.rollout is not None and (route.rollout.version, route.rollout.cascade, route.rollout.share) == ("7", CASCADE, 0.05)
    before = route.before
    assert before is not None and (before.answers, before.model_version, before.cascade, before.rollout) == ("cascade", "7", CASCADE, None)
    assert started(NEW, SURE, ()) == NEW and started(NEW, SURE, (100.0,)) == NEW, "no step below 100 %"
    assert started(NEW, TEACHER, STEPS) == NEW, "nothing was live"
    assert started(SURE, SURE, STEPS) == SURE, "the same version as another system has one server"
    nine = started(replace(NEW, model_version="9"), route, STEPS)
    assert nine.rollout is not None and nine.rollout.version == "7", "the one between did not prove itself"


def test_the_steps() -> None:
    assert [next_share(share, STEPS) for share in (0.05, 0.5, 1.0)] == [0.5, 1.0, None]
    assert next_share(0.2, STEPS) == 0.5 and next_share(0.05, (5.0,)) == 1.0 and next_share(0.5, ()) == 1.0
    route = under_way()
    assert route.rollout is not None
    half = with_share(route, route.rollout, 0.5, "x")
    assert half.rollout is not None and half.rollout.share == 0.5 and half.rollout.since > route.rollout.since
    assert with_share(half, route.rollout, 0.0, "x") == half, "another process was first"
    assert with_share(route, route.rollout, None, "x").rollout is None


def test_an_operator_moves_only_what_is_under_way() -> None:
    assert moved_by_hand(under_way(), 100.0, "all is well").rollout is None
    for route, percent, reason, message in (
        (NEW, 5.0, "x", "no rollout is under way"),
        (under_way(), 101.0, "x", "101 % is impossible"),
        (under_way(), float("nan"), "x", "impossible"),
        (under_way(), 5.0, " ", "--reason"),
    ):
        with pytest.raises(ConfigError, match=message):
            moved_by_hand(route, percent, reason)


def test_the_flag_keeps_a_rollout_and_a_decision_for_another_system_ends_it(tmp_path: Path) -> None:
    file, route = tmp_path / "flags.json", under_way()
    write_route(file, route)
    assert read_route(file) == route
    assert to_version(route, "8", None, "re-tested").rollout == route.rollout
    assert to_version(route, "7", CASCADE, "rolled back").rollout is None and to_teacher(route, "distrusted").rollout is None
    write_route(file, SURE)
    assert "rollout" not in file.read_text(encoding="utf-8"), "earlier readers see no new key"


@pytest.mark.parametrize(
    "rollout",
    [
        "{}",
        "3",
        json.dumps({"version": "8", "cascade": None, "share": 0.05, "since": ""}),
        json.dumps({"version": "7", "cascade": None, "share": 1.5, "since": ""}),
        json.dumps({"version": "7", "cascade": {}, "share": 0.5, "since": ""}),
        json.dumps({"version": "7", "cascade": None, "share": 0.5, "since": "", "more": 1}),
    ],
)
def test_half_a_rollout_is_the_teacher(tmp_path: Path, rollout: str) -> None:
    tree: Any = flag_file(under_way())
    tree["flags"][FLAG]["metadata"]["rollout"] = rollout
    (tmp_path / "flags.json").write_text(json.dumps(tree), encoding="utf-8")
    assert read_route(tmp_path / "flags.json").answers == "teacher"
