from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from redistill.validation.filters.near_duplicate import NearDuplicates, canonical, jaccard, shingles
from tests.bench.row_source import rows
from tests.likeness import like_pairs

BANK = Path(__file__).parents[4] / "data" / "bank_triage"
TEXT = "can u change my email on here, uni one expires friday"


def test_canonical_text() -> None:
    assert canonical("  Card LOST!!  (help_me) ") == "card lost help me"
    assert canonical("?!") == "?!"
    assert canonical(" ") == ""


def test_shingles_of_short_texts() -> None:
    assert shingles("PIN") == {"pin"}
    assert shingles("card 1") == {"card ", "ard 1"}


def index(*texts: str, threshold: float = 0.5) -> NearDuplicates:
    """All texts but the last are added; the last one is what tests look up."""
    seen = NearDuplicates(texts, threshold)
    for number in range(len(texts) - 1):
        seen.add(number)
    return seen


def test_matches_are_exact_or_above_the_threshold() -> None:
    assert NearDuplicates([TEXT], 0.5).match(0) is None
    assert index(TEXT, TEXT.upper() + "!!").match(1) == 0
    assert index(TEXT, TEXT + " thanks").match(1) == 0
    assert index(TEXT, TEXT + " thanks", threshold=0.95).match(1) is None
    assert index(TEXT, "where is my new card").match(1) is None


def test_the_earliest_equal_text_wins_and_then_the_likest() -> None:
    texts = (TEXT + " please and thank you", TEXT + " please", TEXT, TEXT + "!")
    assert index(*texts, TEXT + " plea").match(4) == 1
    assert index(*texts, TEXT.upper()).match(4) == 2


def test_texts_that_were_not_added_and_other_kinds_are_not_looked_at() -> None:
    seen = NearDuplicates([TEXT, TEXT + "!", TEXT + "?"], 0.5)
    assert seen.match(2) is None
    seen.add(1, kind=3)
    assert seen.match(2) is None and seen.match(2, (0, 3)) == 1 and seen.kind_of(1) == 3
    seen.add(0, kind=0)
    assert seen.match(2, (3, 0)) == 1 and seen.match(2, (0, 3)) == 0


def test_equal_sets_of_grams_are_near_but_only_equal_texts_are_equal() -> None:
    assert index("ha" * 8, "ha" * 9, "ha" * 9).match(2) == 1
    assert index("ha" * 8, "ha" * 9).match(1) == 0


def test_texts_with_half_characters_and_none_at_all() -> None:
    assert NearDuplicates([], 0.5)
    assert index("half \ud800 of a pair", "half \ud800 of a pair").match(1) == 0


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_no_pair_of_the_example_is_missed(threshold: float) -> None:
    files = ("labelled", "unlabelled")
    texts = [json.loads(line)["text"] for name in files for line in (BANK / f"{name}.jsonl").read_text().splitlines()][::3]
    texts = [t for t in texts if t.strip()]
    grams = [shingles(t) for t in texts]
    expected = {j for i, j in combinations(range(len(texts)), 2) if jaccard(grams[i], grams[j]) >= threshold}
    seen, near = NearDuplicates(texts, threshold), set()
    for j in range(len(texts)):
        if seen.match(j) is not None:
            near.add(j)
        seen.add(j)
    assert near == expected


def test_equal_under_every_hash_seed_and_on_every_machine() -> None:
    """The sketch of one text, by value: a library that makes others would drop other rows."""
    code = (
        "from redistill.validation.filters.near_duplicate import NearDuplicates as N\n"
        "texts = [f'please stop the standing order number {i % 7} to the club {i % 5}' for i in range(40)]\n"
        "n = N(texts + [f'please stop my standing order number {i} to the club' for i in range(7)], 0.3)\n"
        "for i in range(40): n.add(i)\n"
        "print([n.match(40 + i) for i in range(7)], int(n._sketches.bytes_NV.astype('int64').sum()), n._sketches.bytes_NV[0, :6].tolist())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert printed == {"[28, 8, 23, 17, 18, 33, 13] 1497897 [61, 128, 201, 240, 70, 221]"}


def test_processes_start_after_a_large_search_in_this_process() -> None:
    """A library with threads of its own would wait for them for ever in a fork."""
    texts = [row["text"] for row in rows(4500)]
    alone, together = NearDuplicates(texts, 0.5), NearDuplicates(texts, 0.5, processes=2)
    assert (alone._sketches.bytes_NV == together._sketches.bytes_NV).all()


def test_recall_of_generated_near_copies() -> None:
    """All pairs by the exact rule, and those that are candidates. ``python -m tests.bench.near_duplicates`` measures it on 10,000 rows."""
    texts = [row["text"] for row in rows(1500, seed=5)]
    grams = [shingles(text) for text in texts]
    pairs = like_pairs(grams, 0.5)
    assert all(jaccard(grams[i], grams[j]) >= 0.5 for i, j in pairs)
    seen = NearDuplicates(texts, 0.5)
    for number in range(len(texts)):
        seen.add(number)
    assert len(pairs) > 100 and all(i in seen._shared.candidates(j) for i, j in pairs)
