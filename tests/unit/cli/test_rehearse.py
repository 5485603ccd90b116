"""``redistill route rehearse`` as a user types it, on a log as the router writes it."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from redistill.errors import ConfigError
from redistill.serving.route_flag import write_route
from redistill.serving.router.line_log import LineLog
from redistill.serving.types import Rollout
from tasks.serving.rehearse import seconds_of
from tests.routers import SURE, TEACHER
from tests.tiny_project import ROOT, params
from tests.unit.cli.test_cli import one_line, redistill
from tests.unit.serving.test_rehearsal import comparisons


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params("0" * 64)), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    write_route(tmp_path / "artifacts/route/flags.json", SURE)
    return tmp_path


def logged(project: Path, count: int, age_s: float = 0.0) -> None:
    log = LineLog(project / ".redistill/serving/comparisons.jsonl")
    for row in comparisons(count):
        log.add(asdict(replace(row, at=time.time() - age_s)))
    log.write()


def test_a_rehearsal_says_what_would_change_and_changes_nothing(project: Path) -> None:
    flags = project / "artifacts/route/flags.json"
    before = flags.read_bytes()
    logged(project, 300)
    logged(project, 50, age_s=20 * 86_400.0)
    ran = redistill(project, "route", "rehearse", "student", "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out.splitlines()[-1])
    assert (result["version"], result["comparisons"], result["then"]["mode"], result["then"]["limit"]) == ("7", 300, "student", None)
    share = result["measures"]["share"]
    assert share["now"]["value"] < share["then"]["value"] == 1.0 and share["difference"]["interval"]["low"] > 0.1
    assert set(result["slices"]) == {"s0", "s1"} and "usd_per_1000" not in result["measures"]
    people = redistill(project, "route", "rehearse", "cascade", "--threshold", "-2", "--since", "30d")
    assert people.code == 0 and "350 comparisons of version 7" in people.out and "selection: only sampled requests" in people.out
    assert flags.read_bytes() == before


def test_a_share_plays_its_part_and_a_rollout_is_named(project: Path) -> None:
    flags = project / "artifacts/route/flags.json"
    logged(project, 300)
    write_route(flags, replace(SURE, share=0.25))
    people = redistill(project, "route", "rehearse", "student")
    assert people.code == 0 and "cascade for 25% of the keys now, student for 25% of the keys rehearsed" in people.out
    ran = redistill(project, "route", "rehearse", "student", "--json")
    result = json.loads(ran.out.splitlines()[-1])
    assert result["now"]["share"] == 0.25 and 0.1 < result["measures"]["share"]["then"]["value"] < 0.4 and result["rollout"] == ""
    write_route(flags, replace(SURE, rollout=Rollout("6", None, 0.05, "2026-11-28T02:00:00+00:00")))
    under_way = redistill(project, "route", "rehearse", "student")
    assert "version 7 has 5% of the keys, and version 6 the others; both columns are of version 7" in under_way.out
    write_route(flags, replace(SURE, share=0.25, pin="student"))
    pinned = redistill(project, "route", "rehearse", "teacher", "--json")
    assert json.loads(pinned.out.splitlines()[-1])["measures"]["share"]["now"]["value"] == 1.0, "a pin is for all keys"


def test_too_little_and_what_cannot_be_meant(project: Path) -> None:
    logged(project, 60)
    one_line(redistill(project, "route", "rehearse", "student"), 3, "60 comparisons of version 7", "40 are missing", "serve.shadow_share")
    one_line(redistill(project, "route", "rehearse", "both"), 2, "'both' is unknown")
    one_line(redistill(project, "route", "rehearse", "student", "--threshold", "-1"), 2, "--threshold plays no part")
    one_line(redistill(project, "route", "rehearse", "teacher", "--since=7"), 2, "is no length of time")
    for since in ("0d", "x", "-1d", "1w", ""):
        with pytest.raises(ConfigError, match="is no length of time"):
            seconds_of(since)
    assert [seconds_of(since) for since in ("30m", "12h", "7d")] == [1800.0, 43_200.0, 604_800.0]
    write_route(project / "artifacts/route/flags.json", TEACHER)
    one_line(redistill(project, "route", "rehearse", "cascade"), 2, "the live system has no threshold")
    one_line(redistill(project, "route", "rollout", "--to", "50", "--reason", "x"), 2, "no rollout is under way")
