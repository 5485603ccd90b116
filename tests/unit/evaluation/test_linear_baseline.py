"""The baseline that a language model must beat: it learns labels and flags, spells them well, and knows no entities."""

from __future__ import annotations

import pytest

from redistill.data.grammars.record import RecordGrammar
from redistill.data.types import Message, Prompt
from redistill.errors import DataError
from redistill.evaluation.probes.linear_baseline import fit
from tests.tiny import sentences

SINGLE = RecordGrammar(("card", "fee", "other"))
FULL = RecordGrammar(("card", "fee", "other"), ("urgent", "complaint"), ("amount",), several=True)
WORDS = {
    "card": ["my card is lost", "card stolen on the bus", "where is my card", "the card is broken", "replace the card please"],
    "fee": ["why this fee", "a monthly fee again", "explain the fee please", "fee for what", "the fee is wrong"],
    "other": ["mortgage rates today", "when do you open", "what a lovely day", "do you insure boats", "opening hours please"],
}


def rows(lines: list[tuple[str, str | None]]) -> list[Prompt]:
    return [Prompt.of((Message("user", text),), f"r{i}", "app", label, "test") for i, (text, label) in enumerate(lines)]


def plain() -> list[Prompt]:
    return rows([(text, label) for label, texts in WORDS.items() for text in texts])


def rich() -> list[Prompt]:
    lines: list[tuple[str, str | None]] = []
    for label, texts in WORDS.items():
        lines += [(text, label) for text in texts]
        lines += [(f"{text} right now it is urgent", f"{label}; urgent") for text in texts]
    lines += [(f"{a} and {b}, £5", "card+fee; amount=£5") for a, b in zip(WORDS["card"], WORDS["fee"], strict=True)]
    return rows(lines)


def test_single_labels_are_learnt() -> None:
    predict = fit(plain(), SINGLE, 7)
    assert predict(["someone stole my card", "another fee", "insure my boat"]) == ["card", "fee", "other"]
    assert predict([p.text for p in plain()]) == [p.label for p in plain()]


def test_several_labels_and_flags_are_learnt_and_entities_are_not() -> None:
    predict = fit(rich(), FULL, 7)
    assert predict(["my card is lost and explain the fee, £5"]) == ["card+fee"]
    assert predict(["why this fee right now it is urgent", "why this fee"]) == ["fee; urgent", "fee"]


def test_every_prediction_is_a_line_of_the_grammar() -> None:
    for grammar, train in ((SINGLE, plain()), (FULL, rich())):
        predict = fit(train, grammar, 7)
        for line in predict(["", "🙂", "card fee mortgage urgent", "zzz qqq", "card " * 500, *[s.split("\n")[0] for s in sentences(40)]]):
            record = grammar.parse(line)
            assert record.labels and not record.entities


def test_one_label_only_where_the_grammar_allows_only_one() -> None:
    grammar = RecordGrammar(FULL.labels, FULL.flags, FULL.entities, several=False)
    train = [p for p in rich() if "+" not in (p.label or "")]
    lines = fit(train, grammar, 7)(["my card is lost and explain the fee right now it is urgent", "card fee"])
    assert all(len(grammar.parse(line).labels) == 1 for line in lines)
    assert "urgent" in lines[0]


def test_labels_that_no_row_carries_are_never_predicted() -> None:
    grammar = RecordGrammar(("account", *FULL.labels, "zoo"), FULL.flags, FULL.entities, several=True)
    lines = fit(rich(), grammar, 7)(["account zoo", "a fee for the zoo account"])
    assert not {"account", "zoo"} & {label for line in lines for label in grammar.parse(line).labels}


def test_the_same_rows_give_the_same_predictions() -> None:
    asked = [s.split("\n")[0] for s in sentences(40)]
    assert fit(rich(), FULL, 7)(asked) == fit(rich(), FULL, 7)(asked)


@pytest.mark.parametrize("lines", [[], [("my card", "card")], [("my card", "card; urgent"), ("this card", "card; amount=£5")]])
def test_fewer_than_two_labels_are_refused(lines: list[tuple[str, str | None]]) -> None:
    with pytest.raises(DataError, match=f"the {len(lines)} training rows have fewer than two different labels"):
        fit(rows(lines), FULL, 7)


@pytest.mark.parametrize("label", [None, "loan", "fee+card"])
def test_a_row_without_a_label_of_the_grammar_is_refused(label: str | None) -> None:
    with pytest.raises(DataError, match="label"):
        fit([*plain(), *rows([("a new row", label)])], FULL, 7)
