"""The record grammar: one compact line that a student writes instead of prose.

``card_lost+fraud; urgent; amount=£42.50; last4=4821`` is labels, then flags, then entities, each group in the order
that ``params.yaml`` declares (labels alphabetically). A line has exactly one spelling, so exact match is fair, and it
parses into a set of items, so F1 is defined on fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from redistill.errors import DataError

_SHOWN = 20


def shown_names(names: Sequence[str]) -> str:
    """Names as a message lists them: the first twenty, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@dataclass(frozen=True, slots=True)
class Record:
    labels: tuple[str, ...]
    flags: tuple[str, ...]
    entities: tuple[tuple[str, str], ...]

    def items(self) -> frozenset[tuple[str, str]]:
        """(field, value) pairs; the unit that F1 counts."""
        pairs = {("label", x) for x in self.labels} | {(x, "yes") for x in self.flags}
        return frozenset(pairs | set(self.entities))


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

    def parse(self, line: str) -> Record:
        """Read one line.

        Raises:
            DataError: the line breaks the grammar; the message names the first problem.
        """
        if "\n" in line.strip():
            raise DataError(
                f"{line.strip()!r} contains a line break; a record must be one line, because a completion ends at the end of its line"
            )
        parts = line.strip().split("; ")
        labels = tuple(parts[0].split("+"))
        for label in labels:
            if label not in self._known:
                raise DataError(f"label {label!r} is not listed; known labels: {shown_names(self.labels)}")
        if len(labels) > 1 and not self.several:
            raise DataError(f"{len(labels)} labels ({parts[0]!r}), but data.record.several is false")
        if list(labels) != sorted(set(labels)):
            raise DataError(f"labels {parts[0]!r} must be distinct and in alphabetical order")
        flags: list[str] = []
        entities: list[tuple[str, str]] = []
        order = {name: rank for rank, name in enumerate((*self.flags, *self.entities))}
        last = -1
        for part in parts[1:]:
            name, equals, value = part.partition("=")
            if name not in order or (name in self.flags) == bool(equals) or (equals and not value.strip()):
                raise DataError(f"{part!r} is neither a flag ({shown_names(self.flags)}) nor KIND=VALUE of {shown_names(self.entities)}")
            if order[name] <= last:
                raise DataError(f"{part!r} occurs twice or in the wrong order; the order is {shown_names([*order])}")
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
        for kind, value in record.entities:
            if value not in text:
                raise DataError(f"entity {kind}={value!r} does not occur in the text")

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
            raise DataError(f"the record {line!r} does not parse to the same record; one of its values contains a separator")
        return line
