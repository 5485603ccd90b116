"""Stages that ask a teacher or read data stop by themselves where the review does not hold, and those of before go on."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest
import yaml

from redistill.errors import ConfigError
from redistill.io.json import read_json, write_json
from redistill.params import load_params
from tasks.locking import canary, teacher_lock
from tasks.locking.licence_check import require_reviewed
from tasks.locking.locked_teacher import TEACHER
from tasks.paths import LOCK
from tasks.running.stage_command import run
from tests.tiny_project import make_tiny_project

YESTERDAY = (dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)).isoformat()
STAGES = [
    ("prepare",),
    ("tune_teacher",),
    ("fitness",),
    ("generate",),
    ("score",),
    ("timing",),
    ("benchmark", "teacher"),
    ("heldout", "teacher"),
    ("sweep", "kd", "teacher"),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_tiny_project(tmp_path / "project"))
    return tmp_path / "project"


def edit(change: dict[str, object], covers: str | None = None) -> None:
    file = Path("params.yaml")
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    for review in tree["governance"]["licenses"]:
        if covers in (None, review["covers"]):
            review |= change
            for key in [key for key, value in review.items() if value is None]:
                del review[key]
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


@pytest.mark.parametrize("stage", STAGES, ids=" ".join)
def test_no_stage_goes_on_under_an_expired_review(project: Path, stage: tuple[str, ...]) -> None:
    """`dvc repro` runs stages without the flow that checks the reviews."""
    tree = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    tree["data"]["source"][1]["splits"] = {"pool": 0.7, "calibration": 0.2, "monitor": 0.1}
    Path("params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    edit({"expires": YESTERDAY})
    with pytest.raises(ConfigError, match=f"the review expired on {YESTERDAY}"):
        run(stage[0], stage[1:])
    assert not Path("artifacts").exists() or not any(Path("artifacts").rglob("*.parquet"))


def test_canaries_are_calls_of_the_teacher_too(project: Path) -> None:
    write_json(canary.CANARIES, {"prompts": [{"messages": [{"role": "user", "content": "my card is gone"}], "slice": "app"}]})
    edit({"expires": YESTERDAY})
    with pytest.raises(ConfigError, match="the review expired"):
        canary.epoch(load_params())


def test_a_project_of_before_goes_on_and_another_teacher_does_not(project: Path) -> None:
    shutil.copytree("teacher", TEACHER)
    params = load_params()
    teacher_lock.lock_sources(params)
    teacher_lock.lock_teacher(params)
    lock = read_json(LOCK)
    write_json(LOCK, {**lock, "licence": [{k: v for k, v in each.items() if k != "of"} for each in lock["licence"]]})
    edit({"model": None, "backend": None, "sources": None})
    require_reviewed()
    teacher_lock.lock_teacher(load_params())
    assert [each["of"] for each in read_json(LOCK)["licence"]] == [each["of"] for each in lock["licence"]]
    tree = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    tree["teacher"]["model"] = "another"
    tree["data"]["source"].append({"path": "more.jsonl", "splits": {"train": 1.0}})
    Path("params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"teacher was reviewed for teacher transformers, but params name another .*no review of data covers more\.jsonl"
    ):
        require_reviewed()
