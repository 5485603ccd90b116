"""The bank example's own promise: no row of one split is nearly a row of another, planted ones excepted."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

from redistill.filters.near_duplicate import shingles

DATA = Path(__file__).parents[2] / "data" / "bank_triage"
FILES = ("labelled", "unlabelled", "heldout")
LIMIT = 0.5


def test_no_near_duplicates_across_splits() -> None:
    rows = [
        (name, row["id"], shingles(row["text"]))
        for name in FILES
        for row in map(json.loads, (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
        if not row.get("planted")
    ]
    having: dict[object, list[int]] = defaultdict(list)
    close = []
    for index, (name, identity, own) in enumerate(rows):
        shared = Counter(other for shingle in own for other in having[shingle] if rows[other][0] != name)
        for other, common in shared.items():
            likeness = common / len(own | rows[other][2])
            if likeness >= LIMIT:
                close.append((round(likeness, 2), identity, rows[other][1]))
        for shingle in own:
            having[shingle].append(index)
    assert len(rows) > 1500
    assert close == []
