"""``redistill.promotion.alpha_spending``: what each look may spend, what remains after it, and a chain that nobody can change unseen."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import replace

import pytest

from redistill.errors import RegistryError
from redistill.io.digests import canonical_digest
from redistill.promotion.alpha_spending import (
    Earlier,
    budget,
    checked,
    earlier_look,
    entry_digest,
    left_after,
    left_after_retest,
    left_of,
    level_of,
    retest_known,
    retest_question,
    waits_for,
)
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Look

PARAMS = PromoteParams(alpha_per_heldout=0.05, looks_per_heldout=2)
IDS = [f"row{i}" for i in range(100)]


def after(ledger: list[Look], *, promoted: bool, key: str = "", params: PromoteParams = PARAMS) -> list[Look]:
    left = left_of(ledger, params)
    level = level_of(left, params)
    look = Look(
        heldout="h",
        number=len(ledger) + 1,
        key=key or f"key{len(ledger)}",
        candidate="c",
        spent=level,
        level=level,
        shown=promoted,
        verdict="promote" if promoted else "hold",
        at="2026-11-22T03:00:00+00:00",
        by="ops",
        previous=entry_digest(ledger[-1]) if ledger else "",
        left=left_after(left, level, 1, 0 if promoted else None),
    )
    return [*ledger, look]


def ledger_of(*promoted: bool, params: PromoteParams = PARAMS) -> list[Look]:
    ledger: list[Look] = []
    for p in promoted:
        ledger = after(ledger, promoted=p, params=params)
    return ledger


def test_each_look_takes_its_part_of_what_is_left() -> None:
    """By hand, with halves: 0.025, 0.0125, 0.00625, whatever the verdicts."""
    for verdicts in ([False] * 3, [True] * 3, [True, False, True]):
        assert [look.level for look in ledger_of(*verdicts)] == pytest.approx([0.025, 0.0125, 0.00625])
    assert [look.number for look in ledger_of(False, True)] == [1, 2]


def test_with_ten_parts_a_hold_keeps_the_rest_and_a_promotion_hands_on_its_level() -> None:
    ten = replace(PARAMS, looks_per_heldout=10)
    assert [look.level for look in ledger_of(False, False, params=ten)] == pytest.approx([0.005, 0.0045])
    assert left_of(ledger_of(True, params=ten), ten) == pytest.approx(0.005)


@pytest.mark.parametrize("systems", [1, 2])
def test_all_results_of_a_look_together_have_no_more_than_the_budget(systems: int) -> None:
    """The union bound of the docstring: for every set of inferior systems, their level and the branches that go on."""
    left, level = 0.05, 0.025
    branch = {place: left_after(left, level, systems, place) for place in (None, *range(systems))}
    for inferior in ([], [0], [systems - 1], list(range(systems))):
        open_branches = [branch[place] for place in branch if place is None or place not in inferior]
        if 0 in inferior and systems == 2:
            # The student is judged only after the cascade passed, which is an error here already.
            open_branches = [branch[None]]
        assert (level if inferior else 0.0) + sum(open_branches) <= left + 1e-12


def test_a_tiny_level_decides_nothing() -> None:
    assert level_of(1e-5, PARAMS) == 0.0 and level_of(2e-5, PARAMS) == 1e-5
    assert left_of(ledger_of(*[False] * 30), PARAMS) > 0.0


def test_alpha_that_was_lowered_since_bounds_what_is_left() -> None:
    assert left_of(ledger_of(False), replace(PARAMS, alpha_per_heldout=0.01)) == 0.01


def test_rows_carry_what_was_spent_on_them() -> None:
    used = Earlier(frozenset(IDS), left=0.01)
    assert budget([], IDS, [], PARAMS) == 0.05
    assert budget([], IDS, [used], PARAMS) == pytest.approx(0.01), "only labels changed"
    assert budget([], IDS[:60], [used], PARAMS) == pytest.approx(0.01), "removed rows give nothing back"
    assert budget([], [*IDS, *(f"new{i}" for i in range(50))], [used], PARAMS) == pytest.approx(0.01), "added rows give nothing back"
    assert budget([], [*IDS[:90], *(f"new{i}" for i in range(10))], [used], PARAMS) == pytest.approx(0.05 - 0.04 * 0.9), "replaced ones do"
    assert budget([], ["new", "newer"], [used], PARAMS) == 0.05


def test_a_row_of_two_sets_carries_the_larger_part_and_a_set_of_two_halves_both() -> None:
    one, two = Earlier(frozenset(IDS[:50]), left=0.01), Earlier(frozenset(IDS[50:]), left=0.03)
    assert budget([], [*IDS[:25], *IDS[75:]], [one, two], PARAMS) == pytest.approx(0.05 - (0.04 + 0.02) / 2)
    assert budget([], IDS, [one, two], PARAMS) == pytest.approx(0.01), "all rows of a set bring all that was spent on it"
    assert budget([], IDS[:50], [one, Earlier(frozenset(IDS), left=0.02)], PARAMS) == pytest.approx(0.01)


def test_a_set_does_not_forget_what_was_spent_after_it_on_its_rows() -> None:
    own = ledger_of(False)
    assert budget(own, IDS, [Earlier(frozenset([*IDS, "new"]), left=0.002)], PARAMS) == pytest.approx(0.002)


def test_what_people_learn_from_a_retest_has_its_part() -> None:
    parts = [left_after_retest(0.04, result) for result in ("holds", "hold", "worse", "inferior")]  # type: ignore[arg-type]
    assert sum(parts) == pytest.approx(0.04) and max(parts) == parts[0]


def test_a_system_that_was_held_waits_for_a_quarter_more_rows() -> None:
    held = [replace(look, question="this", n=500) for look in ledger_of(False)]
    assert waits_for(held, "this", 501) == 625 and waits_for(held, "this", 624) == 625
    assert waits_for(held, "this", 625) is None
    assert waits_for(held, "that", 501) is None, "another system is another question"
    assert waits_for(held, "this", 500) is None, "as many rows, but other labels"
    assert waits_for([replace(held[0], verdict="promote")], "this", 501) is None


def test_entries_of_earlier_versions_are_read_as_they_are() -> None:
    """Their digest has no new field, and each had spent its share."""
    old = Look("h", 1, "k", "c", 0.005, 0.005, False, "hold", "2026-11-22T03:00:00+00:00", "ops", "")
    names = ("heldout", "number", "key", "candidate", "spent", "level", "shown", "verdict", "at", "by", "previous")
    assert entry_digest(old) == canonical_digest({name: getattr(old, name) for name in names})
    assert left_of([old], PARAMS) == pytest.approx(0.045)
    assert set(names) < {field.name for field in dataclasses.fields(Look)}


def test_the_same_question_is_found_again() -> None:
    ledger = after(ledger_of(False, True), promoted=False, key="this")
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
        [*ledger[:at], replace(ledger[at], left=0.05), *ledger[at + 1 :]],
        [*ledger[:at], replace(ledger[at], verdict="promote"), *ledger[at + 1 :]],
    ):
        with pytest.raises(RegistryError, match="was altered"):
            checked(tampered, head)


def test_an_unannounced_entry_counts_and_of_a_fork_the_smaller_rest() -> None:
    ledger = ledger_of(False, False)
    assert checked(ledger, entry_digest(ledger[0])) == ledger, "the writer was stopped before announcing the second"
    fork = [*ledger, replace(ledger[1], by="elsewhere", left=0.001)]
    assert len(checked(fork, entry_digest(ledger[1]))) == 3
    assert left_of(checked(fork, None), PARAMS) == 0.001


def test_two_machines_that_look_at_the_same_time_both_count() -> None:
    """Each had 0.05 and took 0.025, so nothing is left."""
    one = replace(ledger_of(False)[0], had=0.05)
    other = replace(one, by="elsewhere", key="another")
    assert left_of(checked([one, other], None), PARAMS) == pytest.approx(0.0)
    assert left_of([one], PARAMS) == pytest.approx(0.025)


def test_a_retest_on_almost_the_same_rows_tells_the_last_result_again() -> None:
    retest = replace(ledger_of(False)[0], kind="retest", question="this", n=400, finding="hold")
    assert [retest_known([retest], "this", n) for n in (400, 499, 500, 399)] == ["hold", "hold", None, None]
    assert retest_known([retest], "with another margin", 400) is None
    promotion = replace(ledger_of(True)[0], implied_retest="this", n=400)
    assert retest_known([promotion], "this", 420) == "holds"
    assert retest_known([promotion, replace(retest, n=500)], "this", 510) == "hold", "the last one counts"


def test_a_retest_with_another_limit_is_another_retest() -> None:
    looser = PromoteParams(gates=({"name": "teacher", "margin": 0.06},))  # type: ignore[arg-type]
    assert retest_question("champion", "teacher", PARAMS) != retest_question("champion", "teacher", looser)
    assert retest_question("champion", "teacher", PARAMS) != retest_question("champion", "teacher", replace(PARAMS, alpha_per_heldout=0.1))
