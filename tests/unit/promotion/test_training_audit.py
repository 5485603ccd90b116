"""``redistill.promotion.training_audit``: what trained the student."""

from __future__ import annotations

from redistill.data.types import Message, Prompt
from redistill.promotion.training_audit import audit
from redistill.promotion.types import Audit


def prompt(text: str, planted: str | None = None) -> Prompt:
    return Prompt.of((Message("user", text),), text[:12], "app", None, "here", planted)


HELDOUT = [prompt("my card was swallowed by the machine at the station and I need it back before I fly on Friday")]


def test_each_offence_is_counted() -> None:
    rows = [
        (prompt("how do I change my address"), "address"),
        (HELDOUT[0], "card_swallowed"),
        (prompt("My card was swallowed by the machine at the station, and I need it back before I fly on friday!"), "card_swallowed"),
        (prompt("what now"), "my card was swallowed by the machine at the station and I"),
        (prompt("refund me to 4111 1111 1111 1111 please"), "refund"),
        (prompt("what is this"), "key=AKIAIOSFODNN7EXAMPLE"),
        (prompt("planted one", planted="copy"), "other"),
    ]
    found = audit(rows, HELDOUT, 0.5, 8)
    assert (found.rows, found.heldout_rows) == (7, 1)
    assert (found.quotes_heldout, found.personal_data, found.secrets, found.planted) == (3, 1, 1, 1)
    assert audit(rows[:1], HELDOUT, 0.5, 8) == Audit(1, 1, 0, 0, 0, 0, audit(rows[:1], [], 0.5, 8).rows_digest)
    assert audit(rows[::-1], HELDOUT, 0.5, 8).rows_digest == found.rows_digest != audit(rows[:2], HELDOUT, 0.5, 8).rows_digest
