from __future__ import annotations

import pytest

from redistill.validation.filters.profanity import find, judge, mask
from redistill.validation.types import Candidate, Drop, Keep


@pytest.mark.parametrize(
    "text",
    [
        "FUCK",
        "fucking",
        "f*ck",
        "f**k off",
        "f***ing",
        "f u c k",
        "f.u.c.k",
        "fuuuuck",
        "sh1t",
        "sh!t",
        "bullshit",
        "a$$hole",
        "b@stard",
        "b*****d",
        "c*nt",
        "wankers",
        "arseholes",
        "you absolute prick",
        "dickhead",
    ],
)
def test_strong_insults_are_dropped_and_masked(text: str) -> None:
    assert judge(Candidate(f"well, {text}!")) == Drop("profanity", "insult")
    assert "[INSULT]" in mask(text)
    assert find(mask(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "damn hell bloody crap",
        "useless stupid idiots and morons",
        "Scunthorpe",
        "Penistone",
        "shiitake",
        "push it",
        "assassin class",
        "Dick Turpin",
        "cocktail",
        "a finger prick test",
        "flame retardant",
        "this hit",
        "Wankel engine",
        "if u c kids",
        "bitcoin",
        "analysis",
    ],
)
def test_mild_words_and_innocent_ones_pass(text: str) -> None:
    assert judge(Candidate(text)) == Keep()
    assert mask(text) == text
