"""The numbers of the ledger are computed again: every real entry passes, and none can leave more than the rules give."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.errors import RegistryError
from redistill.promotion.alpha_spending import entry_digest, left_after, left_after_retest, left_of, level_of
from redistill.promotion.ledger_rules import check_numbers
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Look

STEPS = st.lists(
    st.sampled_from(["hold 1", "hold 2", "promote last", "promote first of 2", "promote last of 2", "holds", "hold", "worse", "inferior"]),
    max_size=8,
)


def ledger_of(steps: list[str], looks_per_heldout: int) -> list[Look]:
    params, looks = PromoteParams(alpha_per_heldout=0.05, looks_per_heldout=looks_per_heldout), list[Look]()
    for step in steps:
        had = left_of(looks, params)
        level = level_of(had, params)
        if level == 0.0:
            break
        systems, promoted = {
            "hold 1": (1, None),
            "hold 2": (2, None),
            "promote last": (1, 0),
            "promote first of 2": (2, 0),
            "promote last of 2": (2, 1),
        }.get(step, (0, None))
        retest = not systems
        look = Look(
            "h", len(looks) + 1, f"k{len(looks)}", "c", 0.0 if retest else level, 0.0 if retest else level, promoted is not None,
            "hold" if promoted is None else "promote", "2026-11-22", "ops", entry_digest(looks[-1]) if looks else "",
            left_after_retest(had, step) if retest else left_after(had, level, systems, promoted),  # type: ignore[arg-type]
            kind="retest" if retest else "decision", had=had, finding=step if retest else None,  # type: ignore[arg-type]
        )  # fmt: skip
        looks.append(look)
    return looks


@given(STEPS, st.integers(1, 12))
def test_every_ledger_of_ours_passes(steps: list[str], looks_per_heldout: int) -> None:
    check_numbers(ledger_of(steps, looks_per_heldout))


@given(STEPS.filter(bool), st.data())
def test_no_entry_leaves_more_than_the_rules_give(steps: list[str], data: st.DataObject) -> None:
    ledger = ledger_of(steps, 2)
    at = data.draw(st.integers(0, len(ledger) - 1))
    look = ledger[at]
    assert look.left is not None and look.had is not None
    more = data.draw(st.floats(look.left * 1.01 + 1e-6, 1.0))
    forged = replace(look, left=more)
    if more <= look.had and look.kind == "decision" and look.verdict == "promote":
        return  # Another result of the same decision may leave as much.
    with pytest.raises(RegistryError, match=f"was altered: look {look.number} leaves"):
        check_numbers([*ledger[:at], forged])


def test_entries_of_before_have_no_such_numbers() -> None:
    [look] = ledger_of(["hold 1"], 2)
    check_numbers([replace(look, had=None, left=0.9), replace(look, had=None, left=None)])
