"""The real example, whole, and Banking77 by params alone. Long: `make test-all`."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path

import pytest
import yaml

from tests.cycles import Command
from tests.tiny_project import ROOT

BANKING77 = ROOT.parent / "shared" / "data" / "banking77" / "train.csv"


def project(path: Path) -> Path:
    for name in ("src", "tasks", "flows", "data"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, path / name)
    return path


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_bank_triage(tmp_path: Path, redistill: Command) -> None:
    there = project(tmp_path)
    done = redistill(there, "run", "--json", timeout_s=3000)
    assert done.code == 0, done.stderr[-3000:]
    tree = json.loads((there / "artifacts/report/report.json").read_text(encoding="utf-8"))
    arms = {who: a["f1"]["value"] for who, a in tree["arms"].items()}
    assert arms["teacher"] >= arms["linear"] + 0.05
    # Ten points were hoped for; six were measured, and docs/adr/0007 says why.
    assert arms["kd"] >= arms["gold"] + 0.03
    assert arms["gold"] < arms["sft"]
    assert arms["kd"] >= 0.9 * arms["teacher"]
    assert arms["kd"] > arms["linear"]
    assert arms["base"] < 0.05
    assert not tree["governance"]["planted_passed"]
    assert tree["governance"]["planted_caught"] >= 30
    assert tree["arms"]["kd"]["cost"]["parameters"] <= 0.6 * tree["arms"]["teacher"]["cost"]["parameters"]
    start = time.monotonic()
    again = redistill(there, "run", "--json")
    assert set(again.result["stages"].values()) == {"unchanged"}
    print(f"unchanged cycle: {time.monotonic() - start:.1f} s")
    assert again.result["verdict"] == done.result["verdict"]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_banking77_by_params_alone(tmp_path: Path, redistill: Command) -> None:
    """Single-label topics do not need a language model; the report must find that out by itself."""
    if not BANKING77.is_file():
        pytest.skip("Banking77 is not part of the project; put it at ../shared/data/banking77/train.csv to run this")
    there = project(tmp_path)
    with open(BANKING77, encoding="utf-8") as handle:
        labels = sorted({row["category"] for row in csv.DictReader(handle)})
    tree = yaml.safe_load((there / "params.yaml").read_text(encoding="utf-8"))
    splits = {"train": 0.08, "dev": 0.01, "pool": 0.06, "calibration": 0.01, "heldout": 0.05}
    tree["data"] = {
        "name": "banking77",
        "source": [{"path": str(BANKING77), "splits": splits}],
        "columns": {"label": "category"},
        "task": "classification",
        "record": {"labels": labels},
        "prompt_template": "{text}\n=>",
    }
    tree["promote"]["critical_labels"] = {}
    tree["intake"]["near_duplicate"] = 0.9
    tree["finetune"]["common"]["tokens"] = 40_000
    tree["tune_teacher"]["epochs"] = 2
    (there / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    done = redistill(there, "run", "--json", timeout_s=3000)
    assert done.code == 0, done.stderr[-3000:]
    report = json.loads((there / "artifacts/report/report.json").read_text(encoding="utf-8"))
    scores = {who: a["exact_match"]["value"] for who, a in report["arms"].items()}
    print(scores, report["decision"]["verdict"], report["decision"]["linear_suffices"])
    assert report["decision"]["linear_suffices"]
    assert "linear" in " ".join(report["decision"]["reasons"])
