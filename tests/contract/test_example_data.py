"""The bank example's own promise: no row of one split is nearly a row of another, planted ones excepted."""

from __future__ import annotations

import json
import re
from pathlib import Path

from redistill.evaluation.probes.counterfactual import read_pairs
from redistill.validation.filters.near_duplicate import shingles
from tests.likeness import like_pairs

DATA = Path(__file__).parents[2] / "data" / "bank_triage"
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
