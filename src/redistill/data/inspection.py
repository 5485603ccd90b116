"""What a user's file contains: columns, labels and lengths of texts, and the task that follows from them."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from redistill.data.layouts import alpaca
from redistill.data.layouts.all_layouts import KEYS
from redistill.data.layouts.all_layouts import read as read_layout
from redistill.data.layouts.types import Request
from redistill.data.normal_form import normalised
from redistill.data.readers.by_format import raw_rows
from redistill.data.readers.files import described, shown_names
from redistill.data.schema_inference import inferred, objects
from redistill.errors import ConfigError, DataError

Task = Literal["classification", "record", "json", "generation"]

MOST_LABELS = 200
_FIRST_ROWS = 2000
"""Number of rows that are read to find the columns. Labels and counts are those of all rows."""
_TEXTS = 400
_TEXT_NAMES = ("text", "message", "query", "question", "prompt", "input", "utterance", "sentence", "content", "body")
_LABEL_NAMES = (
    "label",
    "category",
    "intent",
    "class",
    "topic",
    "target",
    "answer",
    "output",
    "response",
    "completion",
    "summary",
    "record",
)
_COMPLETION = "the completion"
"""Stands for a label that is the last turn of a conversation, and no column."""
_ID_NAMES = ("id", "uuid", "key", "message_id", "row_id")


@dataclass(frozen=True, slots=True)
class Inspection:
    """``labels`` are those of a classification or a record; of a record ``flags`` and ``entities`` too. ``unlabelled`` rows have no label.

    ``text`` is the column by which the layout is known where rows are conversations. ``id`` is a column of unique keys; ``other_id`` says that there is a column ``id``
    that is not one. ``max_chars`` is the length of text that 99 % of the rows do not exceed, ``label_tokens`` what the longest label may need.
    """

    rows: int
    text: str
    label: str
    id: str | None
    other_id: bool
    task: Task
    labels: tuple[str, ...]
    flags: tuple[str, ...]
    entities: tuple[str, ...]
    several: bool
    unlabelled: int
    max_chars: int
    label_tokens: int
    texts: tuple[str, ...]
    """Some texts, for a guess at their language."""
    several_turns: bool = False
    """Whether some rows are conversations of more than one message."""
    schema: dict[str, Any] | None = None
    """A draft of the schema of labels that are JSON objects."""


def inspect(path: Path, task: Task | None = None, text: str | None = None, label: str | None = None) -> Inspection:
    """Look at a JSONL, CSV or Parquet file. What is given is not guessed; a record is recognised only where ``task`` says so.

    Raises:
        DataError: it cannot be read, or has no rows.
        ConfigError: no column is clearly the text or the label, or the labels are not those of such a task.
    """
    first = list(itertools.islice(_rows(path), _FIRST_ROWS))
    if not first:
        raise DataError(f"{path} has no rows; give it at least one")
    columns = list(dict.fromkeys(str(name) for row in first for name in row))
    layout = _layout(first) if text is None else None
    text_column = layout or _named(text, columns, "text", path) or _by_name(columns, _TEXT_NAMES) or _longest(first, columns)
    others = [c for c in columns if c != text_column]
    label_column = _named(label, columns, "label", path)
    if layout and label_column is None and any(_request(row).completion is not None for row in first):
        label_column = _COMPLETION
    label_column = label_column or _by_name(others, _LABEL_NAMES) or _repeated(first, others)
    if text_column is None or label_column is None:
        missing = "text" if text_column is None else "label"
        without = (
            ""
            if text_column is None
            else ". redistill needs labelled rows to start: make the project with labelled rows, and add this file to data.source later"
        )
        raise ConfigError(
            f"{path}: no column is clearly the {missing}; the columns are {shown_names(columns)}; name it with --{missing} COLUMN{without}"
        )
    seen = _Seen(_by_name(columns, _ID_NAMES))
    for row in _rows(path):
        request = _request(row) if layout else None
        seen.add(*_text_and_label(row, request, text_column, label_column, path), row)
        seen.several_turns = seen.several_turns or (request is not None and len(request.messages) > 1)
    if not seen.labels:
        raise ConfigError(f"{path}: column {label_column!r} is empty; redistill needs some labelled rows to measure on")
    chosen = task or _task(seen.labels)
    return Inspection(
        rows=seen.rows,
        text=text_column,
        label="label" if label_column == _COMPLETION else label_column,
        id=seen.id if seen.unique else None,
        other_id="id" in columns and not (seen.id == "id" and seen.unique),
        task=chosen,
        **_parts(seen.labels, chosen, path, label_column),
        unlabelled=seen.unlabelled,
        max_chars=_percentile(seen.lengths),
        label_tokens=max(map(_tokens, seen.labels)) if chosen != "generation" else _percentile([_tokens(x) for x in seen.labels]),
        texts=tuple(seen.texts),
        several_turns=seen.several_turns,
        schema=inferred(seen.labels) if chosen == "json" else None,
    )


class _Seen:
    """What is counted over all rows of a file."""

    def __init__(self, id_column: str | None) -> None:
        self.id, self.unique, self.rows, self.unlabelled, self.several_turns = id_column, id_column is not None, 0, 0, False
        self.labels, self.lengths, self.texts = Counter[str](), list[int](), list[str]()
        self._spellings = dict[str, str]()
        self._ids, self._random = set[str](), random.Random(7)

    def add(self, text: str, label: str, row: Mapping[str, Any]) -> None:
        self.rows += 1
        self.lengths.append(len(text))
        self.unlabelled += not label
        if label:
            # Two spellings of the same characters are one label.
            self.labels[self._spellings.setdefault(normalised(label), label)] += 1
        if self.id is not None and self.unique:
            key = row.get(self.id)
            self.unique = isinstance(key, str | int) and not isinstance(key, bool) and str(key).strip() not in self._ids | {""}
            self._ids.add(str(key).strip())
        # A reservoir: each row has the same chance to be among the texts.
        if len(self.texts) < _TEXTS:
            self.texts.append(text)
        elif (place := self._random.randrange(self.rows)) < _TEXTS:
            self.texts[place] = text


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    return (row for _, row in raw_rows(path.name, path.parent.resolve()))


def _named(name: str | None, columns: Sequence[str], what: str, path: Path) -> str | None:
    if name is not None and name not in columns:
        raise ConfigError(f"{path} has no column {name!r} for --{what}; its columns are {shown_names(columns)}")
    return name


def _by_name(columns: Sequence[str], names: Sequence[str]) -> str | None:
    lower = {c.lower(): c for c in columns}
    return next((lower[name] for name in names if name in lower), None)


def _longest(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str | None:
    """The column of strings that are longest on average, if it is twice as long as any other."""
    means = sorted(((sum(len(_string(r.get(c))) for r in rows) / len(rows), c) for c in columns), reverse=True)
    return means[0][1] if means and (len(means) == 1 or means[0][0] > 2 * means[1][0]) else None


def _repeated(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str | None:
    """The only column with few distinct values."""
    few = [c for c in columns if 1 < len({_string(r.get(c)) for r in rows}) <= min(MOST_LABELS, len(rows) // 5)]
    return few[0] if len(few) == 1 else None


def _task(counts: Counter[str]) -> Task:
    """JSON objects are JSON. Few labels that repeat often, each a short line, are classes. Everything else is text that a model writes."""
    if objects(counts) > len(counts) / 2:
        return "json"
    few = len(counts) <= MOST_LABELS and len(counts) <= sum(counts.values()) / 3
    short = all(len(label) <= 80 and "\n" not in label for label in counts)
    return "classification" if few and short else "generation"


def _parts(counts: Counter[str], task: Task, path: Path, column: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {"labels": (), "flags": (), "entities": (), "several": False}
    if task == "json" and (others := len(counts) - objects(counts)):
        raise ConfigError(
            f"{path}: column {column!r} has {others} of {len(counts)} different labels that are no JSON objects (or have a key twice, or a number that is none); "
            "correct these rows, or use --task generation, or --label with another column"
        )
    if task in ("generation", "json"):
        return nothing
    if task == "classification":
        odd = sorted(x for x in counts if set(x) & set("+;=\n"))
        if odd:
            raise ConfigError(
                f"{path}: a label in column {column!r} ({described(odd[0])}) contains '+', ';', '=' or a line break, which a label must not contain; rename it, "
                "or use --task record if such a value is a record, or --task generation if it is text"
            )
        if len(counts) > MOST_LABELS:
            raise ConfigError(
                f"{path}: column {column!r} has {len(counts)} different values, more than the {MOST_LABELS} labels that `init` accepts for a classification; "
                "use --task generation, or --label with another column"
            )
        return {**nothing, "labels": tuple(sorted(counts))}
    labels, several = set[str](), False
    before: dict[str, dict[str, set[str]]] = {"flags": {}, "entities": {}}
    for line in counts:
        first, *rest = line.strip().split("; ")
        several = several or "+" in first
        labels |= set(first.split("+"))
        for kind, names in (("flags", [x for x in rest if "=" not in x]), ("entities", [x.partition("=")[0] for x in rest if "=" in x])):
            for place, name in enumerate(names):
                before[kind].setdefault(name, set()).update(names[:place])
    if len(labels) > MOST_LABELS:
        raise ConfigError(
            f"{path}: column {column!r} does not contain records: its values begin with {len(labels)} different labels; "
            "a record is a line such as `fee+refund; urgent; amount=5`"
        )
    try:
        flags, entities = (
            tuple(TopologicalSorter({n: sorted(b) for n, b in sorted(before[kind].items())}).static_order()) for kind in before
        )
    except CycleError as error:
        raise ConfigError(
            f"{path}: the parts {' and '.join(error.args[1][:2])} of records appear in both orders; use the same order in all records"
        ) from None
    return {"labels": tuple(sorted(labels)), "flags": flags, "entities": entities, "several": several}


def _percentile(values: Sequence[int], share: float = 0.99) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)))]


def _tokens(label: str) -> int:
    """More tokens than a label needs: two characters of Latin script are one token at least, and a byte of another script one at most."""
    plain = sum(c.isascii() for c in label)
    return -(-plain // 2) + len(label.encode("utf-8", "replace")) - plain


def _layout(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column by which the rows' layout is known, if they are in one."""
    for key in KEYS:
        if any(isinstance(row.get(key), list) or (key == alpaca.KEY and row.get(key) and "output" in row) for row in rows):
            return key
    return None


def _request(row: Mapping[str, Any]) -> Request:
    request = read_layout(dict(row), "a row")
    if request is None:
        raise DataError(f"a row has none of {', '.join(KEYS)}, which other rows of the file have; correct it")
    return request


def _text_and_label(row: Mapping[str, Any], request: Request | None, text: str, label: str, path: Path) -> tuple[str, str]:
    shown = _string(row.get(text)) if request is None else request.messages[-1].content
    value = request.completion if request is not None and label == _COMPLETION else row.get(label)
    return shown, _label(value, path, label)


def _label(value: Any, path: Path, column: str) -> str:
    """A label as ``data.sources`` reads it: text or a whole number, without the space around it; empty where there is none."""
    if value is None or isinstance(value, str):
        return (value or "").strip()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(
            f"{path}: column {column!r} contains {described(value)}, but a label must be text or a whole number; correct the row"
        )
    return str(value)


def _string(value: Any) -> str:
    return "" if value is None else str(value)
