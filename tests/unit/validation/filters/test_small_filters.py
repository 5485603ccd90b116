"""Length, repetition, refusal and quoting: a table each."""

from __future__ import annotations

import pytest

from redistill.validation.filters import refusal
from redistill.validation.filters.length import Length
from redistill.validation.filters.quoting import QuoteIndex
from redistill.validation.filters.repetition import Repetition, share
from redistill.validation.params import IntakeParams
from redistill.validation.types import Candidate, Drop, Keep, first_objection


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("", Drop("length", "empty")),
        (" \t\n", Drop("length", "empty")),
        ("\u200b\ufeff", Drop("length", "empty")),
        ("x ", Drop("length", "too short")),
        ("pin", Keep()),
        ("a" * 2000, Keep()),
        ("a" * 2001, Drop("length", "too long")),
        (" " * 3000 + "pin", Drop("length", "too long")),
    ],
)
def test_length(text: str, verdict: Keep | Drop) -> None:
    assert Length(IntakeParams()).judge(Candidate(text)) == verdict


@pytest.mark.parametrize("text", ["a a a a a a", "the cat sat on the mat " * 8, "!" * 12, "=" * 40, "card_lost " * 5])
def test_loops_are_dropped(text: str) -> None:
    assert Repetition(0.6).judge(Candidate(text)) == Drop("repetition", "repeats itself")


@pytest.mark.parametrize(
    "text", ["", "ok", "yes yes", "card_lost; urgent; amount=£42.50; date=3 May; last4=4821", "wait... and see", "£1,000,000,000"]
)
def test_answers_are_no_loops(text: str) -> None:
    assert Repetition(0.6).judge(Candidate(text)) == Keep()


def test_the_limit_itself_is_allowed() -> None:
    text = "a b c a b c"
    assert share(text) == 0.25
    assert Repetition(0.25).judge(Candidate(text)) == Keep()
    assert Repetition(0.24).judge(Candidate(text)) != Keep()


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, I can\u2019t assist.",
        "I cannot provide that information.",
        "Unfortunately, I am unable to help.",
        "Sure. However, I won't answer this.",
        "I apologize, but I cannot classify this.",
    ],
)
def test_refusals_are_dropped(text: str) -> None:
    assert refusal.judge(Candidate(text)) == Drop("refusal", "refuses to answer")


def test_a_model_that_speaks_of_itself_is_dropped() -> None:
    assert refusal.judge(Candidate("As an AI language model, I have no card.")) == Drop("refusal", "speaks as an AI model")


@pytest.mark.parametrize(
    "text",
    [
        "card_lost; urgent",
        "I'm sorry that your card was stolen. You can block it in the app.",
        "The customer says: I can't get into my app",
    ],
)
def test_help_is_no_refusal(text: str) -> None:
    assert refusal.judge(Candidate(text)) == Keep()


def test_quoting() -> None:
    index = QuoteIndex(["My card was eaten by the machine outside the bakery", "too short"], 5)
    quote = "He wrote: CARD was eaten, by the machine!"
    assert index.match(quote) == "card was eaten by the"
    assert index.judge(Candidate(quote)) == Drop("decontamination", "quotes a held-out row")
    assert index.judge(Candidate("the machine ate my card outside the bakery")) == Keep()
    assert index.judge(Candidate("too short")) == Keep()
    assert index.judge(Candidate(quote, "hello, my card was eaten by the machine")) == Keep()
    assert index.judge(Candidate(quote, "my card was eaten by it")) != Keep()


def test_the_first_objection_counts_and_later_filters_do_not_run() -> None:
    asked = []

    def never(candidate: Candidate) -> Keep | Drop:
        asked.append(candidate)
        return Drop("never", "reached")

    assert first_objection([Repetition(0.6).judge, refusal.judge, never], Candidate("!" * 12)) == Drop("repetition", "repeats itself")
    assert not asked
    assert first_objection([Repetition(0.6).judge, refusal.judge], Candidate("card_lost; urgent")) == Keep()
    assert first_objection([], Candidate("")) == Keep()
