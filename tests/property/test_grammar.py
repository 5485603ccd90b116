"""A record has one line and a line has one record."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from redistill.data.grammars.record import Record, RecordGrammar
from redistill.errors import DataError

NAMES = st.text("abcdefghij_é0", min_size=1, max_size=4)
# What an entity may be: text copied from one line, without the separator, stripped as any field is.
VALUES = st.text(min_size=1, max_size=8).filter(lambda v: v == v.strip() and "; " not in v and "\n" not in v)


@st.composite
def grammars(draw: st.DrawFn) -> RecordGrammar:
    labels = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    others = draw(st.lists(NAMES, max_size=6, unique=True))
    cut = draw(st.integers(0, len(others)))
    return RecordGrammar(tuple(labels), tuple(others[:cut]), tuple(others[cut:]), draw(st.booleans()))


@st.composite
def grammars_and_records(draw: st.DrawFn) -> tuple[RecordGrammar, Record]:
    grammar = draw(grammars())
    labels = draw(
        st.lists(st.sampled_from(grammar.labels), min_size=1, max_size=len(grammar.labels) if grammar.several else 1, unique=True)
    )
    flags = tuple(f for f in grammar.flags if draw(st.booleans()))
    entities = tuple((e, draw(VALUES)) for e in grammar.entities if draw(st.booleans()))
    return grammar, Record(tuple(sorted(labels)), flags, entities)


@given(case=grammars_and_records())
def test_parse_undoes_write(case: tuple[RecordGrammar, Record]) -> None:
    grammar, record = case
    line = grammar.write(record)
    assert grammar.parse(line) == record
    assert "\n" not in line
    grammar.check_grounded(record, " and ".join(value for _, value in record.entities))


@given(case=grammars_and_records(), data=st.data())
def test_order_of_a_record_does_not_reach_its_line(case: tuple[RecordGrammar, Record], data: st.DataObject) -> None:
    grammar, record = case
    shuffled = Record(*(tuple(data.draw(st.permutations(part))) for part in (record.labels, record.flags, record.entities)))
    assert grammar.write(shuffled) == grammar.write(record)
    assert shuffled.items() == record.items()


@given(case=grammars_and_records(), data=st.data())
def test_every_other_spelling_is_refused(case: tuple[RecordGrammar, Record], data: st.DataObject) -> None:
    """Parts of a valid line in any order, some of them twice: either it is the line, or it does not parse."""
    grammar, record = case
    parts = grammar.write(record).split("; ")
    parts = data.draw(st.permutations(parts + data.draw(st.lists(st.sampled_from(parts), max_size=1))))
    line = "; ".join(parts)
    try:
        read = grammar.parse(line)
    except DataError:
        assert line != grammar.write(record)
        return
    assert grammar.write(read) == line.strip()


@given(
    grammar=grammars(),
    line=st.text(max_size=30) | st.lists(st.sampled_from(["a", "b", "; ", "+", "=", ";", " "]), max_size=12).map("".join),
)
def test_any_text_is_a_record_or_a_data_error(grammar: RecordGrammar, line: str) -> None:
    try:
        record = grammar.parse(line)
    except DataError as error:
        assert str(error)
        return
    assert grammar.write(record) == line.strip()


@given(case=grammars_and_records().filter(lambda case: bool(case[1].entities)), text=st.text(" ~", max_size=10))
def test_ungrounded_entities_are_refused(case: tuple[RecordGrammar, Record], text: str) -> None:
    grammar, record = case
    assume(any(value not in text for _, value in record.entities))
    with pytest.raises(DataError, match="does not occur in the text"):
        grammar.check_grounded(record, text)
