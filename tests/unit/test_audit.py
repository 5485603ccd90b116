"""``redistill.audit`` and ``redistill.drift``: what trained the student, and whether traffic has moved on."""

from __future__ import annotations

import random

from redistill.audit import audit
from redistill.drift import two_sample_auc
from redistill.records import Audit, Message, Prompt


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


def test_drift_is_seen_and_its_absence_too() -> None:
    words = ("card", "lost", "refund", "fee", "pin", "login", "limit", "transfer")
    old = [f"{a} {b} please help me" for a in words for b in words]
    mixed = random.Random(5).sample(old, len(old))
    same = two_sample_auc(mixed[::2], mixed[1::2])
    moved = two_sample_auc(old, [f"{t} with the new savings pot" for t in old])
    assert same is not None and moved is not None
    assert moved.auc > 0.95 and moved.low > 0.9 and same.low < 0.5 + 0.1
    assert two_sample_auc(old[:19], old) is None
