"""``redistill.promotion.alpha_spending``: what each look may spend, what it hands on, and a chain that nobody can change unseen."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from redistill.errors import RegistryError
from redistill.promotion.alpha_spending import checked, earlier_look, entry_digest, next_look, spendable
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Look

PARAMS = PromoteParams(alpha_per_heldout=0.05, looks_per_heldout=10)


def after(ledger: list[Look], *, shown: bool, key: str = "", params: PromoteParams = PARAMS) -> list[Look]:
    given = {"heldout": "h", "key": key or f"key{len(ledger)}", "candidate": "c", "at": "2026-11-22T03:00:00+00:00", "by": "ops"}
    return [*ledger, next_look(ledger, params, shown=shown, verdict="promote" if shown else "hold", **given)]


def ledger_of(*shown: bool, params: PromoteParams = PARAMS) -> list[Look]:
    ledger: list[Look] = []
    for s in shown:
        ledger = after(ledger, shown=s, params=params)
    return ledger


def test_looks_that_show_nothing_spend_equal_shares_until_nothing_is_left() -> None:
    ledger = ledger_of(*[False] * 10)
    assert [look.level for look in ledger] == pytest.approx([0.005] * 10)
    assert [look.number for look in ledger] == list(range(1, 11))
    assert spendable(ledger, PARAMS) == (0.0, 0.0)


def test_a_look_that_showed_what_was_asked_hands_its_level_on() -> None:
    """By hand: shares of 0.005; two discoveries in a row add up, a look that shows nothing keeps what it got."""
    assert [look.level for look in ledger_of(True, True, False, False)] == pytest.approx([0.005, 0.010, 0.015, 0.005])
    last = ledger_of(*[False] * 9, True)
    assert spendable(last, PARAMS) == (0.0, pytest.approx(0.005)), "used up, but the last discovery's level may be used once more"


def test_a_plan_changed_midway_never_raises_the_total() -> None:
    ledger = ledger_of(*[False] * 5)
    eager = replace(PARAMS, looks_per_heldout=2)
    assert spendable(ledger, eager)[1] == pytest.approx(0.025)
    assert spendable(after(ledger, shown=False, params=eager), eager) == (0.0, 0.0)
    strict = replace(PARAMS, alpha_per_heldout=0.01)
    assert spendable(ledger, strict) == (0.0, 0.0)
    assert spendable(ledger_of(True), replace(PARAMS, alpha_per_heldout=0.004))[1] <= 0.004


def test_the_same_question_is_found_again() -> None:
    ledger = after(ledger_of(False, True), shown=False, key="this")
    assert earlier_look(ledger, "this") == ledger[2] and earlier_look(ledger, "that") is None


def test_order_of_reading_does_not_matter() -> None:
    ledger = ledger_of(*[False, True] * 4)
    shuffled = random.Random(3).sample(ledger, len(ledger))
    assert checked(shuffled, entry_digest(ledger[-1])) == ledger
    assert checked([], None) == []


@pytest.mark.parametrize("at", range(6))
def test_a_changed_or_removed_entry_is_noticed(at: int) -> None:
    ledger = ledger_of(*[False] * 6)
    head = entry_digest(ledger[-1])
    for tampered in (
        [*ledger[:at], *ledger[at + 1 :]],
        [*ledger[:at], replace(ledger[at], level=0.0001), *ledger[at + 1 :]],
        [*ledger[:at], replace(ledger[at], verdict="promote"), *ledger[at + 1 :]],
    ):
        with pytest.raises(RegistryError, match="was altered"):
            checked(tampered, head)


def test_an_unannounced_entry_counts_and_a_fork_counts_twice() -> None:
    ledger = ledger_of(False, False)
    assert checked(ledger, entry_digest(ledger[0])) == ledger, "the writer was stopped before announcing the second"
    fork = [*ledger, replace(ledger[1], by="elsewhere")]
    assert len(checked(fork, entry_digest(ledger[1]))) == 3
    assert sum(look.spent for look in checked(fork, None)) == pytest.approx(0.015)
