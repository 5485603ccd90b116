"""The bank example's own promise: no row of one split is nearly a row of another, planted ones excepted."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import yaml

from redistill.evaluation.probes.counterfactual import read_pairs
from redistill.validation.filters.near_duplicate import shingles
from tests.likeness import like_pairs

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data" / "bank_triage"
FILES = ("labelled", "unlabelled", "calibration", "monitor", "heldout")
LIMIT = 0.5


def test_counterfactual_pairs_were_never_trained_on_and_copy_the_same_entities() -> None:
    pairs = read_pairs("fairness.jsonl", DATA)
    assert {p.kind for p in pairs} == {"name", "gender", "dialect"} and len(pairs) >= 90
    assert len({p.message for p in pairs}) == len(pairs), "each pair stands for a message of its own"
    known = {
        row["text"].casefold()
        for name in FILES
        for row in map(json.loads, (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    }
    for pair in pairs:
        assert not {text.casefold() for text in pair.texts} & known, pair.id
        amounts = [re.findall(r"[£€][\d,.]*\d", text) for text in pair.texts]
        assert amounts[0] == amounts[1], pair.id


def test_the_example_is_trained_as_long_as_the_run_that_the_docs_show() -> None:
    """A trial with fewer tokens, committed by mistake, would show newcomers a student that learnt little."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    report = json.loads((ROOT / "docs/sample-report/report.json").read_text(encoding="utf-8"))
    steps = {arm: curve[-1]["step"] for arm, curve in report["training"].items()}
    # A row of the example has 40 to 50 tokens that count, and a step has a batch of rows.
    batch = params["finetune"]["common"]["batch_size"]
    assert steps and all(30 < params["finetune"]["common"]["tokens"] / (step * batch) < 60 for step in steps.values()), steps


def test_no_state_of_a_trial_is_in_the_repository() -> None:
    """A cycle writes locks and the folder of DVC. In this repository they would be those of one trial, and the next cycle would compare itself with that."""
    listed = subprocess.run(
        ["git", "ls-files", "--", ".dvc", "dvc.lock", "*.lock.json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert listed.stdout.split() == []


def test_no_near_duplicates_across_splits() -> None:
    rows = [
        (name, row["id"], shingles(row["text"]))
        for name in FILES
        for row in map(json.loads, (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
        if not row.get("planted")
    ]
    pairs = like_pairs([grams for _, _, grams in rows], LIMIT)
    close = [(rows[i][1], rows[j][1]) for i, j in pairs if rows[i][0] != rows[j][0]]
    assert len(rows) > 1500
    assert close == []
