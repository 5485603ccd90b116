"""One row of a user's file, checked: what it asks, its label, and what is known of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.data.column_names import check_columns
from redistill.data.grammars.types import spelled
from redistill.data.layouts import alpaca
from redistill.data.layouts.all_layouts import KEYS
from redistill.data.layouts.all_layouts import read as read_layout
from redistill.data.layouts.types import Request
from redistill.data.params import DataParams, SourceParams
from redistill.data.readers.by_format import raw_rows
from redistill.data.readers.files import described, shown_names
from redistill.data.readers.hub import HUB_SOURCE
from redistill.data.types import DEFAULT_SLICE, Column, Message
from redistill.errors import DataError

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row with its place (``where``: file and line). ``columns`` are those that the prompt template shows besides the message."""

    where: str
    messages: tuple[Message, ...]
    columns: tuple[Column, ...]
    label: str | None
    id: str
    slice: str
    planted: str | None


def read_source(source: SourceParams, data: DataParams, root: Path = Path(), names: set[str] | None = None) -> Iterator[SourceRow]:
    """Each row of a source, checked. The columns that its rows have are added to ``names``.

    Raises:
        DataError: see ``redistill.data.sources.load``.
    """
    columns, count, seen, prefix = data.columns, 0, dict[str, None](), _id_prefix(source, data)
    for number, values in raw_rows(source.path, root):
        count += 1
        where = f"{source.path}, {number}"
        seen.update(dict.fromkeys(values))
        request = _request(values, data, where)
        shown = tuple(Column(name, _column_text(values.get(name), name, where)) for name in data.shown_columns)
        text = "\n".join([request.messages[-1].content, *(c.value for c in shown)])
        label = _checked_label(_label(values.get(columns.label), request, data, where), text, data, where)
        # Of a million rows many have the same label and slice: one text in memory for all of them.
        yield SourceRow(
            where,
            request.messages,
            shown,
            sys.intern(label) if label else label,
            _short(_column(values, columns.id), "id", where) or f"{prefix}:{number.split()[-1]}",
            sys.intern(_short(_column(values, columns.slice), "slice", where) or DEFAULT_SLICE),
            _short(values.get("planted"), "planted", where),
        )
    if count == 0:
        raise DataError(f"{source.path} has no rows; give it at least one, or remove it from data.source")
    check_columns(data.shown_columns, seen, source.path, "data.prompt_template")
    if names is not None:
        names.update(seen)


def _request(values: dict[str, Any], data: DataParams, where: str) -> Request:
    """What a row asks: its text column, or a conversation in one of the layouts."""
    name = data.columns.text
    # A layout also reads other columns, such as the input of an instruction. If the template names columns, it shows them instead.
    as_layout = name in KEYS and not data.shown_columns and (name == alpaca.KEY or not isinstance(values.get(name), str))
    text = None if as_layout else values.get(name)
    if text is not None and (beside := next((key for key in KEYS if key != name and isinstance(values.get(key), list)), None)):
        raise DataError(
            f"{where}: the row has {name!r} and {beside!r}, and a model would be shown only the first; set data.columns.text to the one that is meant"
        )
    request = read_layout(values, where) if text is None else Request((Message("user", text),))
    if request is None:
        has = shown_names(values)
        raise DataError(
            f"{where}: no {name!r} and no {', '.join(map(repr, KEYS))} (the row has {has}); name the column in data.columns.text"
        )
    for message in request.messages:
        if not isinstance(message.content, str):
            raise DataError(f"{where}: {name!r} must be text, not {described(message.content)}; write it as a string")
        _refuse_half_characters(message.content, where)
    if len(request.messages) > 1 and data.format == "plain":
        raise DataError(
            f"{where}: the row is a conversation of {len(request.messages)} messages, and data.format: plain shows only one; use data.format: chat"
        )
    return request


def _label(value: Any, request: Request, data: DataParams, where: str) -> str | None:
    """The label of the row: its column, or the completion that its conversation ends with."""
    if data.task == "json" and isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False, default=str)
    label = _short(value, "label", where)
    completion = _short(request.completion, "the completion", where)
    if label is not None and completion is not None and spelled(data.grammar, label) != spelled(data.grammar, completion):
        raise DataError(
            f"{where}: the column {data.columns.label!r} and the conversation's own completion differ; keep one of the two as the label"
        )
    return completion if label is None else label


def _column_text(value: Any, name: str, where: str) -> str:
    """A column as the template shows it; empty where the row has none."""
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    _refuse_half_characters(text, f"{where}, column {name!r}")
    return text


def _column(values: dict[str, Any], name: str | None) -> Any:
    return None if name is None else values.get(name)


def _short(value: Any, name: str, where: str) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {name} must be text or a whole number, not {described(value)}")
    _refuse_half_characters(str(value), where)
    return str(value).strip()


def _refuse_half_characters(text: str, where: str) -> None:
    """JSON can contain half of a surrogate pair, but such text cannot be hashed, tokenized or stored."""
    if _HALF_CHARACTER.search(text):
        raise DataError(
            f"{where}: {described(text)} contains an incomplete Unicode character (a surrogate without its pair); export the row again"
        )


def _checked_label(label: str | None, text: str, data: DataParams, where: str) -> str | None:
    if label is None:
        return label
    if data.grammar is not None:
        try:
            label = data.grammar.label(label, text)
        except DataError as error:
            section = "data.schema" if data.task == "json" else "data.record"
            raise DataError(f"{where}: the label is wrong: {error}; correct the row, or {section} in params.yaml") from None
    if (stop := next((stop for stop in data.stop if stop in label), None)) is not None:
        raise DataError(
            f"{where}: label ({described(label)}) contains the stop sequence {stop!r}, so no completion can match it; correct the row or data.stop"
        )
    return label


def _id_prefix(source: SourceParams, data: DataParams) -> str:
    """What ids that rows do not have begin with: the file's name, or its path where another source has the same name."""
    names = [_stem(other.path) for other in data.files]
    stem = _stem(source.path)
    return stem if names.count(stem) == 1 else source.path


def _stem(path: str) -> str:
    hub = HUB_SOURCE.fullmatch(path)
    return (
        Path(path.removesuffix(".gz")).stem
        if hub is None
        else "-".join(filter(None, (Path(hub["name"]).name, hub["config"], hub["split"])))
    )
