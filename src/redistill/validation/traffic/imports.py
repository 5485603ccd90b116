"""Traces that people already have, as logged requests: read, checked against the task, without personal data and secrets, each once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redistill.data.forgotten import tombstone_digest
from redistill.data.params import DataParams
from redistill.data.traffic.formats.all_formats import FORMATS
from redistill.data.traffic.formats.json_values import json_values
from redistill.data.traffic.formats.types import Broken, Skipped, Trace
from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import DEFAULT_SLICE, Column, Message, Prompt, prompt_id
from redistill.errors import DataError
from redistill.io.digests import canonical_digest
from redistill.validation.intake import conversation
from redistill.validation.traffic.choose import not_a_prompt
from redistill.validation.traffic.scrub import scrubbed

_SLICE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_MOST_SHOWN = 30
_ID_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """``slice_by`` is a key of a record, with dots for keys within keys; None: all rows are one slice. ``max_chars`` is that of intake.

    ``forgotten`` are the digests of tombstones: prompts that a person had removed, and that no import brings back.
    """

    format: str
    consent: str
    licence: str
    slice_by: str | None
    max_chars: int
    forgotten: frozenset[str] = frozenset()


@dataclass(slots=True)
class Tally:
    """What became of the records of a file. ``broken`` has one line for each of the first of them, ``broken_rows`` their number."""

    rows: int = 0
    already: int = 0
    replaced: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    broken_rows: int = 0


def imported(file: Path, data: DataParams, settings: ImportSettings, ids: set[str], tally: Tally) -> Iterator[LoggedRequest]:
    """The new rows of a file, one at a time. ``ids`` are those that are there already; new ones are added.

    Raises:
        DataError: the file cannot be read.
    """
    for where, value in json_values(str(file), file):
        for trace in [value] if isinstance(value, Broken) else FORMATS[settings.format](value):
            if isinstance(trace, Broken):
                tally.broken_rows += 1
                if tally.broken_rows <= _MOST_SHOWN:
                    tally.broken.append(f"{file}, {where}: {trace.reason}")
                continue
            row = trace if isinstance(trace, Skipped) else _row(trace, data, settings)
            if isinstance(row, Skipped):
                tally.left_out[row.reason] += 1
            elif row.id in ids:
                tally.already += 1
            else:
                ids.add(row.id)
                tally.rows += 1
                tally.replaced += row.replaced > 0
                yield row


def _row(trace: Trace, data: DataParams, settings: ImportSettings) -> LoggedRequest | Skipped:
    """The trace as a row, or why it is no prompt of the task. Everything that is stored of it is scrubbed first."""
    if missing := [name for name in data.shown_columns if not isinstance(trace.values.get(name), str | int | float)]:
        return Skipped(f"no {missing[0]!r}, which the template shows")
    raw = Prompt.of(trace.messages, "", "", None, "") if _is_text(trace) else None
    if raw is None:
        return Skipped("text with an incomplete Unicode character")
    if problem := not_a_prompt(raw, data):
        return Skipped(problem)
    if len(conversation(raw)) > settings.max_chars:
        return Skipped(f"longer than intake.max_chars ({settings.max_chars:,})")
    texts = [scrubbed(message.content) for message in trace.messages]
    messages = tuple(Message(message.role, text) for message, (text, _) in zip(trace.messages, texts, strict=True))
    shown = [(name, scrubbed(str(trace.values[name]))) for name in data.shown_columns]
    columns = tuple(Column(name, text) for name, (text, _) in shown)
    prompt = Prompt.of(messages, "", _slice(trace, settings.slice_by), None, "", columns=columns)
    # A prompt may have been removed from the logged traffic, or from data that had the text as it is in this file.
    as_it_is = prompt_id(trace.messages, tuple(Column(name, str(trace.values[name])) for name in data.shown_columns))
    if settings.forgotten & {tombstone_digest(prompt.id), tombstone_digest(as_it_is)}:
        return Skipped("removed before with `redistill forget`")
    replaced = sum(count for _, count in (*texts, *(each for _, each in shown)))
    # An id of a file may be a name or an address, so it is not stored.
    identity = canonical_digest([settings.format, trace.key, trace.at, prompt.id])[:_ID_CHARACTERS]
    return LoggedRequest(
        identity, trace.at, prompt.id, messages, columns, prompt.slice, "", "", "", "", None, None, None, replaced, settings.format,
        settings.consent, settings.licence,
    )  # fmt: skip


def _is_text(trace: Trace) -> bool:
    try:
        Prompt.of(trace.messages, "", "", None, "")
    except DataError:
        return False
    return True


def _slice(trace: Trace, key: str | None) -> str:
    """The slice of a row: what the record says, as long as it is a short text without personal data."""
    value: Any = None if key is None else _at(trace.values, key)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return DEFAULT_SLICE
    text, replaced = scrubbed(str(value).strip())
    return text if not replaced and _SLICE.fullmatch(text) else DEFAULT_SLICE


def _at(values: Any, key: str) -> Any:
    """The value of a key that may itself hold dots, or of keys within keys."""
    if not isinstance(values, dict):
        return None
    if key in values:
        return values[key]
    return next((value for cut in _cuts(key) if (value := _at(values.get(cut[0]), cut[1])) is not None), None)


def _cuts(key: str) -> Iterator[tuple[str, str]]:
    parts = key.split(".")
    yield from ((".".join(parts[:place]), ".".join(parts[place:])) for place in range(1, len(parts)))
