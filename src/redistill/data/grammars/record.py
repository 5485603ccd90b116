"""The record grammar: one compact line that a student writes instead of prose.

``card_lost+fraud; urgent; amount=£42.50; last4=4821`` is labels, then flags, then entities, each group in the order
that ``params.yaml`` declares (labels alphabetically). A line has exactly one spelling, so exact match is fair, and it
parses into a set of items, so F1 is defined on fields.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from redistill.data.grammars.types import Form, Items
from redistill.data.normal_form import normalised
from redistill.data.readers.files import described
from redistill.errors import DataError

_SHOWN = 20


def listed_names(names: Sequence[str]) -> str:
    """Names as a message lists them: the first twenty, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@dataclass(frozen=True, slots=True)
class Record:
    labels: tuple[str, ...]
    flags: tuple[str, ...]
    entities: tuple[tuple[str, str], ...]

    def items(self) -> Items:
        """(field, value) pairs; the unit that F1 counts. Values are in normal form, so another spelling of the same characters is no error."""
        pairs = {("label", x) for x in self.labels} | {(x, "yes") for x in self.flags}
        return frozenset(pairs | {(kind, normalised(value)) for kind, value in self.entities})


@dataclass(frozen=True, slots=True)
class RecordGrammar:
    """What a valid line may contain. ``several`` allows more than one label; flags and entities may be empty."""

    labels: tuple[str, ...]
    flags: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    several: bool = False
    _known: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", frozenset(self.labels))

    @property
    def fields(self) -> tuple[str, ...]:
        return ("label", *self.flags, *self.entities)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.labels, *self.flags)

    @property
    def decides(self) -> bool:
        return True

    @property
    def form(self) -> Form:
        """Labels in their order, then flags, then entities. The end of the line may follow, since a completion ends there."""
        labels, rules = sorted(self.labels), list[str]()
        for n, label in enumerate(labels):
            # One rule a label, for it and all later ones: written out, the choices would grow with the square of the labels.
            later = f" | label_{n + 1}" if n + 1 < len(labels) else ""
            more = f' ("+" label_{n + 1})?' if self.several and later else ""
            rules.append(f"label_{n} ::= {_quoted(label)}{more}{later}")
        flags = "".join(f" ({_quoted(f'; {flag}')})?" for flag in self.flags)
        entities = "".join(rf" ({_quoted(f'; {kind}=')} [^\n; ] [^\n;]*)?" for kind in self.entities)
        return Form("ebnf", "\n".join([rf'root ::= label_0{flags}{entities} "\n"?', *rules]))

    def items(self, line: str) -> Items:
        return self.parse(line).items()

    def item_of(self, name: str) -> tuple[str, str]:
        return ("label", name) if name in self._known else (name, "yes")

    def decisions(self, line: str) -> Items:
        return frozenset(item for item in self.items(line) if item[0] == "label" or item[0] in self.flags)

    def labels_in(self, line: str) -> tuple[str, ...]:
        return self.parse(line).labels

    def spelled(self, line: str) -> str:
        """The line itself: a record has one spelling, up to the normal form of its characters."""
        return line

    def label(self, line: str, text: str) -> str:
        record, written = _parsed_label(self, line)
        self.check_grounded(record, text)
        return written

    def objection(self, line: str, text: str) -> str | None:
        try:
            record = self.parse(line)
        except DataError:
            return "malformed record or unlisted label"
        try:
            self.check_grounded(record, text)
        except DataError:
            return "entity not in the message"
        return None

    def parse(self, line: str) -> Record:
        """Read one line. Names are compared in normal form, and the record has them as they are declared.

        Raises:
            DataError: the line breaks the grammar; the message names the first problem.
        """
        if "\n" in line.strip():
            raise DataError(
                f"the record ({described(line.strip())}) contains a line break; a record must be one line, because a completion ends at the end of its line"
            )
        parts = line.strip().split("; ")
        labels = tuple(_declared(part, self.labels) for part in parts[0].split("+"))
        for label in labels:
            if label not in self._known:
                close = difflib.get_close_matches(label, self.labels, n=1)
                meant = f" (did you mean {close[0]!r}?)" if close else ""
                raise DataError(f"{described(label)} is no listed label{meant}; known labels: {listed_names(self.labels)}")
        if len(labels) > 1 and not self.several:
            raise DataError(f"{len(labels)} labels ({'+'.join(labels)!r}), but data.record.several is false")
        if list(labels) != sorted(set(labels)):
            raise DataError(f"labels {'+'.join(labels)!r} must be distinct and in alphabetical order")
        flags: list[str] = []
        entities: list[tuple[str, str]] = []
        order = {name: rank for rank, name in enumerate((*self.flags, *self.entities))}
        last = -1
        for part in parts[1:]:
            name, equals, value = part.partition("=")
            name = _declared(name, (*self.flags, *self.entities))
            if name not in order or (name in self.flags) == bool(equals) or (equals and not value.strip()):
                raise DataError(
                    f"a part of the record ({described(part)}) is neither a flag ({listed_names(self.flags)}) nor KIND=VALUE of {listed_names(self.entities)}"
                )
            if order[name] <= last:
                raise DataError(f"{name!r} occurs twice or in the wrong order; the order is {listed_names([*order])}")
            last = order[name]
            if equals:
                entities.append((name, value))
            else:
                flags.append(name)
        return Record(labels, tuple(flags), tuple(entities))

    def check_grounded(self, record: Record, text: str) -> None:
        """Check that every entity's value occurs in the text.

        Raises:
            DataError: an entity's value does not occur in the text.
        """
        plain = normalised(text) if record.entities else ""
        for kind, value in record.entities:
            if value not in text and normalised(value) not in plain:
                raise DataError(f"the value of entity {kind} ({described(value)}) does not occur in the text")

    def write(self, record: Record) -> str:
        """The line of a record. Every record has exactly one; ``parse(write(r)) == r``.

        Raises:
            DataError: the record has no line: an unknown name, no label, or a value that would be parsed differently.
        """
        order = {name: rank for rank, name in enumerate((*self.flags, *self.entities))}
        parts = ["+".join(sorted(record.labels))]
        parts += sorted(record.flags, key=lambda name: order.get(name, -1))
        parts += [f"{k}={v}" for k, v in sorted(record.entities, key=lambda pair: order.get(pair[0], -1))]
        line = "; ".join(parts)
        if self.parse(line).items() != record.items():
            raise DataError(f"the record ({described(line)}) does not parse to the same record; one of its values contains a separator")
        return line


@lru_cache(maxsize=4096)
def _parsed_label(grammar: RecordGrammar, line: str) -> tuple[Record, str]:
    """A label as a record and as its only line. Of a million rows many have the same label."""
    record = grammar.parse(line)
    return record, grammar.write(record)


def _quoted(text: str) -> str:
    """Text as a terminal of EBNF, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _declared(name: str, names: tuple[str, ...]) -> str:
    """The declared spelling of a name; the name itself where none is declared."""
    return name if name in names else _by_normal_form(names).get(normalised(name), name)


@lru_cache(maxsize=64)
def _by_normal_form(names: tuple[str, ...]) -> dict[str, str]:
    return {normalised(name): name for name in names}
