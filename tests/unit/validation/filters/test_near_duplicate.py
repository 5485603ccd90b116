from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from redistill.validation.filters.near_duplicate import NearDuplicates, canonical, jaccard, shingles

BANK = Path(__file__).parents[4] / "data" / "bank_triage"
TEXT = "can u change my email on here, uni one expires friday"


def test_canonical_text() -> None:
    assert canonical("  Card LOST!!  (help_me) ") == "card lost help me"
    assert canonical("?!") == "?!"
    assert canonical(" ") == ""


def test_shingles_of_short_texts() -> None:
    assert shingles("PIN") == {"pin"}
    assert shingles("card 1") == {"card ", "ard 1"}


def test_matches_are_exact_or_above_the_threshold() -> None:
    seen = NearDuplicates(0.5)
    assert seen.match(TEXT) is None
    seen.add("first", TEXT)
    assert seen.match(TEXT.upper() + "!!") == "first"
    assert seen.match(TEXT + " thanks") == "first"
    assert seen.match(TEXT + " thanks", 0.95) is None
    assert seen.match("where is my new card") is None


def test_the_likest_wins_and_the_earliest_of_equals() -> None:
    seen = NearDuplicates(0.5)
    seen.add("far", TEXT + " please and thank you")
    seen.add("near", TEXT + " please")
    seen.add("same", TEXT)
    seen.add("same again", TEXT)
    assert seen.match(TEXT + " plea") == "near"
    assert seen.match(TEXT) == "same"


def test_a_lower_threshold_than_built_for_is_refused() -> None:
    with pytest.raises(ValueError, match="below 0.5"):
        NearDuplicates(0.5).match(TEXT, 0.4)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_no_pair_of_the_example_is_missed(threshold: float) -> None:
    files = ("labelled", "unlabelled")
    texts = [json.loads(line)["text"] for name in files for line in (BANK / f"{name}.jsonl").read_text().splitlines()][::3]
    texts = [t for t in texts if t.strip()]
    grams = [shingles(t) for t in texts]
    expected = {j for i, j in combinations(range(len(texts)), 2) if jaccard(grams[i], grams[j]) >= threshold}
    seen, found = NearDuplicates(threshold), set()
    for j, text in enumerate(texts):
        if seen.match(text) is not None:
            found.add(j)
        seen.add(j, text)
    assert found == expected


def test_equal_under_every_hash_seed() -> None:
    code = (
        "from redistill.validation.filters.near_duplicate import NearDuplicates as N\n"
        "n = N(0.3)\n"
        "for i in range(40): n.add(f'k{i}', f'please stop the standing order number {i % 7} to the club {i % 5}')\n"
        "print([n.match(f'please stop my standing order number {i} to the club') for i in range(7)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert "None" not in said.pop()
