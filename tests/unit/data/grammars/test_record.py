"""One line, one spelling: what the record grammar reads, and what it refuses in one sentence."""

from __future__ import annotations

import json

import pytest

from redistill.data.grammars.record import Record, RecordGrammar
from redistill.errors import DataError
from tests.tiny import BANK

GRAMMAR = RecordGrammar(("card_lost", "fee", "fraud"), ("urgent", "complaint"), ("amount", "last4"), several=True)


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ("fee", Record(("fee",), (), ())),
        ("  fee\n", Record(("fee",), (), ())),
        ("card_lost+fraud", Record(("card_lost", "fraud"), (), ())),
        ("fee; urgent; complaint", Record(("fee",), ("urgent", "complaint"), ())),
        ("fee; amount=£42.50; last4=4821", Record(("fee",), (), (("amount", "£42.50"), ("last4", "4821")))),
        ("card_lost+fraud; urgent; amount=a=b", Record(("card_lost", "fraud"), ("urgent",), (("amount", "a=b"),))),
        ("fee; amount=five; or so", None),
    ],
)
def test_lines_are_read_as_they_are_meant(line: str, record: Record | None) -> None:
    if record is None:
        with pytest.raises(DataError):
            GRAMMAR.parse(line)
        return
    assert GRAMMAR.parse(line) == record
    assert GRAMMAR.write(record) == line.strip()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "a text of 0 characters is no listed label; known labels: card_lost, fee, fraud"),
        ("refund", "a text of 6 characters is no listed label; known"),
        ("Fee", "a text of 3 characters is no listed label (did you mean 'fee'?)"),
        ("fee + fraud", "a text of 4 characters is no listed label (did you mean 'fee'?)"),
        ("urgent; fee", "a text of 6 characters is no listed label"),
        ("fraud+card_lost", "labels 'fraud+card_lost' must be distinct and in alphabetical order"),
        ("fee+fee", "must be distinct and in alphabetical order"),
        ("fee; complaint; urgent", "'urgent' occurs twice or in the wrong order; the order is urgent, complaint, amount, last4"),
        ("fee; urgent; urgent", "'urgent' occurs twice or in the wrong order"),
        ("fee; last4=1; amount=2", "'amount' occurs twice or in the wrong order"),
        ("fee; amount=1; urgent", "'urgent' occurs twice or in the wrong order"),
        (
            "fee; angry",
            "a part of the record (a text of 5 characters) is neither a flag (urgent, complaint) nor KIND=VALUE of amount, last4",
        ),
        ("fee; amount", "a part of the record (a text of 6 characters) is neither a flag"),
        ("fee; amount=", "(a text of 7 characters) is neither a flag"),
        ("fee; amount= ; last4=1", "(a text of 8 characters) is neither a flag"),
        ("fee; urgent=yes", "(a text of 10 characters) is neither a flag"),
        ("fee;urgent", "a text of 10 characters is no listed label"),
        ("fee; ", "a text of 4 characters is no listed label"),
    ],
)
def test_offences_are_named(line: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        GRAMMAR.parse(line)
    assert sentence in str(caught.value)


def test_several_labels_only_where_they_are_allowed() -> None:
    single = RecordGrammar(("fee", "fraud"))
    assert single.parse("fee").labels == ("fee",)
    with pytest.raises(DataError, match=r"2 labels \('fee\+fraud'\), but data.record.several is false"):
        single.parse("fee+fraud")


def test_items_are_what_f1_counts() -> None:
    record = GRAMMAR.parse("card_lost+fraud; urgent; amount=£5")
    assert record.items() == {("label", "card_lost"), ("label", "fraud"), ("urgent", "yes"), ("amount", "£5")}
    assert GRAMMAR.fields == ("label", "urgent", "complaint", "amount", "last4")


def test_writing_puts_everything_in_its_order() -> None:
    record = Record(("fraud", "card_lost"), ("complaint", "urgent"), (("last4", "4821"), ("amount", "£5")))
    assert GRAMMAR.write(record) == "card_lost+fraud; urgent; complaint; amount=£5; last4=4821"


@pytest.mark.parametrize(
    "record",
    [
        Record(("fee",), (), (("amount", "5; urgent"),)),
        Record(("fee",), (), (("amount", "5 "),)),
        Record(("fee",), ("angry",), ()),
        Record((), ("urgent",), ()),
    ],
)
def test_records_without_a_spelling_are_refused(record: Record) -> None:
    with pytest.raises(DataError):
        GRAMMAR.write(record)


def test_entities_are_copied_never_invented() -> None:
    record = GRAMMAR.parse("fee; amount=£5.00; last4=4821")
    GRAMMAR.check_grounded(record, "you took £5.00 from card 4821")
    with pytest.raises(DataError, match=r"the value of entity last4 \(a text of 4 characters\) does not occur in the text"):
        GRAMMAR.check_grounded(record, "you took £5.00 from card 482 1")


def test_every_label_of_the_example_has_one_spelling() -> None:
    grammar = RecordGrammar(
        tuple(sorted({label for row in bank() for label in row["label"].split("; ")[0].split("+")})),
        ("urgent", "complaint"),
        ("amount", "date", "merchant", "last4"),
        several=True,
    )
    for row in bank():
        record = grammar.parse(row["label"])
        assert grammar.write(record) == row["label"]
        grammar.check_grounded(record, row["text"])


def bank() -> list[dict[str, str]]:
    return [json.loads(line) for line in BANK.read_text(encoding="utf-8").splitlines()]


def test_another_spelling_of_the_same_characters_is_the_same_label_and_value() -> None:
    grammar = RecordGrammar(("caf\u00e9", "fee"), (), ("merchant",))
    record = grammar.parse("cafe\u0301; merchant=Cr\u00e8me\u200b")
    assert record.labels == ("caf\u00e9",) and grammar.write(record).startswith("caf\u00e9; ")
    assert record.items() == grammar.parse("\uff43\uff41\uff46\u00e9; merchant=Cre\u0300me").items()
    grammar.check_grounded(record, "at Cre\u0300me yesterday")


def test_no_error_quotes_what_a_row_holds() -> None:
    grammar = RecordGrammar(("fee", "pin"), ("urgent",), ("amount",))
    card = "4111 1111 1111 1111"
    for line in (card, f"fee+{card}", f"fee; {card}", f"fee; urgent={card}", f"fee; amount={card}\nx", f"fee; amount={card}; urgent"):
        with pytest.raises(DataError) as caught:
            grammar.parse(line)
        assert "4111" not in str(caught.value)
    with pytest.raises(DataError) as caught:
        grammar.check_grounded(grammar.parse(f"fee; amount={card}"), "nothing")
    assert "4111" not in str(caught.value)
