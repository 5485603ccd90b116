"""Length, repetition, refusal and quoting: a table each."""

from __future__ import annotations

import pytest

from redistill.validation.filters import length, refusal, repetition
from redistill.validation.filters.quoting import QuoteIndex
from redistill.validation.params import IntakeParams
from redistill.validation.types import Drop, Keep


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
    assert length.judge(text, IntakeParams()) == verdict


@pytest.mark.parametrize("text", ["a a a a a a", "the cat sat on the mat " * 8, "!" * 12, "=" * 40, "card_lost " * 5])
def test_loops_are_dropped(text: str) -> None:
    assert repetition.judge(text, 0.6) == Drop("repetition", "repeats itself")


@pytest.mark.parametrize(
    "text", ["", "ok", "yes yes", "card_lost; urgent; amount=£42.50; date=3 May; last4=4821", "wait... and see", "£1,000,000,000"]
)
def test_answers_are_no_loops(text: str) -> None:
    assert repetition.judge(text, 0.6) == Keep()


def test_the_limit_itself_is_allowed() -> None:
    text = "a b c a b c"
    assert repetition.share(text) == 0.25
    assert repetition.judge(text, 0.25) == Keep()
    assert repetition.judge(text, 0.24) != Keep()


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
    assert refusal.judge(text) == Drop("refusal", "refuses to answer")


def test_a_model_that_speaks_of_itself_is_dropped() -> None:
    assert refusal.judge("As an AI language model, I have no card.") == Drop("refusal", "speaks as an AI model")


@pytest.mark.parametrize(
    "text",
    [
        "card_lost; urgent",
        "I'm sorry that your card was stolen. You can block it in the app.",
        "The customer says: I can't get into my app",
    ],
)
def test_help_is_no_refusal(text: str) -> None:
    assert refusal.judge(text) == Keep()


def test_quoting() -> None:
    index = QuoteIndex(["My card was eaten by the machine outside the bakery", "too short"], 5)
    quote = "He wrote: CARD was eaten, by the machine!"
    assert index.match(quote) == "card was eaten by the"
    assert index.judge(quote) == Drop("decontamination", "quotes a held-out row")
    assert index.judge("the machine ate my card outside the bakery") == Keep()
    assert index.judge("too short") == Keep()
    assert index.judge(quote, own_prompt="hello, my card was eaten by the machine") == Keep()
    assert index.judge(quote, own_prompt="my card was eaten by it") != Keep()
