from __future__ import annotations

import re
import socket
import unicodedata
from pathlib import Path

import pytest

from redistill.data.forgotten import tombstone_digest
from redistill.data.params import DataParams, RecordParams, SourceParams
from redistill.data.sources import load
from redistill.data.types import Message, Prompt
from redistill.runtime import in_chunks
from redistill.validation.filters.near_duplicate import jaccard, shingles
from redistill.validation.filters.quoting import QuoteIndex
from redistill.validation.intake import judge, redacted
from redistill.validation.params import IntakeParams
from redistill.validation.types import DroppedRow

ROOT = Path(__file__).parents[3]
BANK = DataParams(
    name="bank-triage",
    task="record",
    record=RecordParams(
        labels=(
            "address",
            "card_arrival",
            "card_declined",
            "card_lost",
            "card_stolen",
            "card_swallowed",
            "cash_wrong",
            "close_account",
            "dispute",
            "fee",
            "fraud",
            "limit",
            "login",
            "other",
            "pin",
            "refund",
            "transfer",
        ),
        flags=("urgent", "complaint"),
        entities=("amount", "date", "merchant", "last4"),
        several=True,
    ),
    source=(
        SourceParams(path="data/bank_triage/heldout.jsonl", splits={"heldout": 1.0}),
        SourceParams(path="data/bank_triage/labelled.jsonl", splits={"train": 0.8, "dev": 0.2}),
        SourceParams(path="data/bank_triage/unlabelled.jsonl", splits={"pool": 0.8, "calibration": 0.2}),
    ),
)
FITTING = {
    "api_key": ("secrets", "AWS access key"),
    "private_key": ("secrets", "private key"),
    "email_address": ("personal_data", "e-mail address"),
    "phone_number": ("personal_data", "phone number"),
    "card_number": ("personal_data", "payment card"),
    "iban": ("personal_data", "IBAN"),
    "insult": ("profanity", "insult"),
    "empty": ("length", "empty"),
    "too_long": ("length", "too long"),
    "heldout_copy": ("decontamination", "copy of a held-out row"),
    "heldout_near_copy": ("decontamination", "near-copy of a held-out row"),
    "near_duplicate": ("near_duplicate", "near-duplicate of an earlier row"),
}


def prompt(text: str, source_id: str, label: str | None = None) -> Prompt:
    return Prompt.of((Message("user", text),), source_id, "app", label, "test")


def dropped_for(dropped: list[DroppedRow]) -> dict[str, str]:
    return {row.source_id: f"{row.filter}: {row.reason}" for row in dropped}


def refuse(*_: object) -> None:
    raise AssertionError("intake must not open a connection")


@pytest.fixture(scope="module")
def example() -> tuple[dict[str, list[Prompt]], dict[str, list[Prompt]], list[DroppedRow]]:
    splits = load(BANK, ROOT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        return splits, *judge(splits, IntakeParams())


def test_every_planted_row_of_the_example_is_dropped_for_what_it_is(example) -> None:
    splits, kept, dropped = example
    verdicts = {row.source_id: (row.filter, row.reason) for row in dropped}
    stayed = {p.source_id: p for rows in kept.values() for p in rows}
    planted = [p for rows in splits.values() for p in rows if p.planted]
    assert len(planted) >= 30
    for row in planted:
        if row.planted == "near_duplicate" and row.source_id in stayed:
            # Of two near-duplicates the first in the fixed order stays, whichever of them was planted: its twin must be gone.
            twins = [d for d in dropped if d.filter == "near_duplicate" and jaccard(shingles(d.redacted), shingles(row.text)) >= 0.5]
            assert len(twins) == 1
        elif row.planted == "language":
            assert verdicts[row.source_id][0] == "language"
        else:
            assert verdicts[row.source_id] == FITTING[row.planted or ""], row.source_id


def test_hardly_any_other_row_of_the_example_is_dropped(example) -> None:
    splits, _, dropped = example
    others = sum(p.planted is None for rows in splits.values() for p in rows)
    wrongly = [f"{d.source_id} {d.filter}: {d.reason}: {d.redacted}" for d in dropped if d.planted is None]
    print(f"{len(wrongly)} of {others} rows that were not planted are dropped:", *wrongly, sep="\n  ")
    assert len(wrongly) < 0.01 * others


def test_order_is_kept_nothing_is_lost_and_a_second_pass_drops_nothing(example) -> None:
    splits, kept, dropped = example
    gone = {d.source_id for d in dropped}
    assert kept == {name: [p for p in rows if p.source_id not in gone] for name, rows in splits.items()}
    assert sum(map(len, splits.values())) == sum(map(len, kept.values())) + len(dropped)
    assert judge(kept, IntakeParams()) == (kept, [])


@pytest.mark.parametrize("processes", [2, 3])
def test_the_result_is_the_same_with_any_number_of_processes(example, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    splits, kept, dropped = example
    monkeypatch.setattr(in_chunks, "CHUNK", 50)
    assert judge(splits, IntakeParams(), processes) == (kept, dropped)


def test_the_quarantine_holds_no_raw_text(example) -> None:
    _, _, dropped = example
    told = "\n".join(d.redacted for d in dropped)
    assert all(len(d.redacted) <= 200 and d.stage == "prepare" for d in dropped)
    for raw in ("AKIA", "4111", "4539 1488", "example.org", "7946", "WEST", "MIIE", "bastards", "fucking", "shit"):
        assert raw not in told
    assert all(token in told for token in ("[CARD]", "[EMAIL]", "[IBAN]", "[PHONE]", "[SECRET]", "[INSULT]"))


A = "please stop the standing order to the swimming club, he hates it"
B = "where is my replacement card, i ordered it two weeks ago"


def test_held_out_guards_all_and_dev_guards_what_trains() -> None:
    splits = {
        "train": [prompt(A, "t1"), prompt(B + "?!", "t2")],
        "dev": [prompt(A + " thanks", "d1"), prompt(B, "d2")],
        "pool": [prompt(B, "p1")],
        "calibration": [prompt(B + " help", "c1")],
        "heldout": [prompt(A, "h1")],
    }
    kept, dropped = judge(splits, IntakeParams())
    assert dropped_for(dropped) == {
        "t1": "decontamination: copy of a held-out row",
        "d1": "decontamination: near-copy of a held-out row",
        "t2": "decontamination: near-copy of a dev row",
        "p1": "decontamination: copy of a dev row",
        "c1": "near_duplicate: near-duplicate of an earlier row",
    }
    assert list(kept) == list(splits)


def test_of_near_duplicates_the_first_split_and_then_the_first_id_stays() -> None:
    splits = {"pool": [prompt(A, "a"), prompt(B, "z"), prompt(B + " ", "y")], "train": [prompt(A + "!", "b")]}
    kept, dropped = judge(splits, IntakeParams())
    assert dropped_for(dropped) == {
        "a": "near_duplicate: near-duplicate of an earlier row",
        "z": "near_duplicate: near-duplicate of an earlier row",
    }
    assert [p.source_id for p in kept["train"] + kept["pool"]] == ["b", "y"]


def test_equal_requests_are_dropped_even_among_held_out_rows() -> None:
    splits = {
        "heldout": [prompt(A, "h2", "x"), prompt(A, "h1", "x"), prompt(A + "!", "h3", "x")],
        "pool": [prompt(B, "p2"), prompt(B, "p1")],
    }
    _, dropped = judge(splits, IntakeParams())
    assert dropped_for(dropped) == {
        "h2": "near_duplicate: duplicate of an earlier row",
        "p2": "near_duplicate: duplicate of an earlier row",
    }


def test_a_held_out_row_with_personal_data_is_dropped_and_guards_nothing() -> None:
    clean = "please send the form about my savings account to"
    kept, dropped = judge({"heldout": [prompt(f"{clean} me@ab.io", "h")], "train": [prompt(clean, "t", "x")]}, IntakeParams())
    assert dropped_for(dropped) == {"h": "personal_data: e-mail address"}
    assert [p.source_id for p in kept["train"]] == ["t"]


def test_filters_can_be_turned_off_but_quarantine_stays_redacted() -> None:
    rows = [prompt("write to me@example.org", "a"), prompt("the key is AKIAIOSFODNN7EXAMPLE", "b"), prompt("what a load of shit", "c")]
    rows += [prompt(rows[0].text + "!", "d")]
    kept, dropped = judge({"pool": rows}, IntakeParams(pii=False, secrets=False, profanity=False))
    assert [p.source_id for p in kept["pool"]] == ["a", "b", "c"]
    assert [(d.source_id, d.redacted) for d in dropped] == [("d", "write to [EMAIL]!")]


def test_earlier_turns_are_searched_and_a_shared_system_message_makes_nothing_alike() -> None:
    system = Message("system", "You are the patient and careful assistant of a bank. Answer briefly and politely, in English.")

    def chat(source_id: str, *turns: Message) -> Prompt:
        return Prompt.of((system, *turns), source_id, "app", None, "test")

    leaky = chat("a", Message("user", "my card is 4111111111111111"), Message("assistant", "Thanks."), Message("user", "so is it blocked?"))
    fine = chat("b", Message("user", "where is my card")), chat("c", Message("user", "raise my limit please"))
    _, dropped = judge({"pool": [leaky, *fine]}, IntakeParams())
    assert dropped_for(dropped) == {"a": "personal_data: payment card"}


def test_redacted_is_short_and_quick_on_a_pasted_log() -> None:
    assert redacted("me@example.org " * 100_000).startswith("[EMAIL] [EMAIL]")
    assert redacted("x" * 2_000_000) == "x" * 190 + "…"
    assert redacted("a" * 190 + " 4111 1111 1111 1111").endswith("[CARD]")
    assert redacted("4111111111111111fuck+44 7700 900123") == "[CARD][INSULT][PHONE]"


@pytest.mark.parametrize("end", range(7960, 8020, 3))
def test_redaction_at_a_cut_leaves_no_part_of_a_number(end: int) -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA\n" * 470
    text = f"{key[:end]}\n-----END RSA PRIVATE KEY----- 4111 1111 1111 1111 and 12345678901234567890 more" + " words" * 200
    assert not re.search(r"\d", redacted(text))
    assert not re.search(r"4111|111 1", redacted("a" * end + " 4111 1111 1111 1111" + " b" * 300))


@pytest.mark.parametrize("before", range(150, 200, 4))
def test_a_shortened_text_ends_in_no_half_number(before: int) -> None:
    safe = redacted("w " * (before // 2) + "reference 98765432109876543210 and more words follow here" * 2)
    assert not re.search(r"9876", safe) or "98765432109876543210" in safe


NFC = "my caf\u00e9 card was charged twice at the caf\u00e9 in the old town"


@pytest.mark.parametrize(
    "spelled",
    [
        unicodedata.normalize("NFD", NFC),
        NFC.replace("card", "ca\u00adrd"),
        NFC.replace("twice", "twi\u200bce"),
        "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalnum() else c for c in NFC),
        "\u202a" + NFC + "\u202c",
    ],
)
def test_another_spelling_of_a_held_out_row_is_a_copy(spelled: str) -> None:
    _, dropped = judge({"heldout": [prompt(NFC, "h")], "train": [prompt(spelled, "t", "x")]}, IntakeParams())
    assert dropped_for(dropped) == {"t": "decontamination: copy of a held-out row"}
    _, dropped = judge({"heldout": [prompt(NFC, "h1"), prompt(spelled, "h2")]}, IntakeParams())
    assert dropped_for(dropped) == {"h2": "near_duplicate: duplicate of an earlier row"}
    assert QuoteIndex([NFC], 8).match(spelled) is not None
    assert judge({"pool": [prompt("what a load of s\u200bhit", "p")]}, IntakeParams())[1][0].filter == "profanity"


def test_a_prompt_that_was_removed_is_dropped_in_every_split_and_leaves_no_text() -> None:
    gone, stays = prompt("please block my lost card at once", "gone"), prompt("what does a transfer abroad cost", "stays")
    forgotten = frozenset({tombstone_digest(gone.id)})
    kept, dropped = judge({"train": [gone, stays], "heldout": [gone]}, IntakeParams(), forgotten=forgotten)
    assert {split: [p.source_id for p in rows] for split, rows in kept.items()} == {"train": ["stays"], "heldout": []}
    assert {(row.source_id, row.filter, row.redacted) for row in dropped} == {("gone", "forgotten", "")}
    assert judge({"train": [gone, stays]}, IntakeParams())[1] == []
