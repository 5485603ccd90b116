"""Which prompts a person means: an id of a prompt, a row's own key, or the id of a request; and every text that files may have of them and of nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from redistill.data import sources
from redistill.data.forgotten import tombstone_digest
from redistill.data.traffic.shards import read_traffic
from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import Column, Message, Prompt
from redistill.errors import DataError, RedistillError
from redistill.io.parquet import iter_records
from redistill.operations.traces import SHORTEST, Traces
from redistill.operations.traces_in_text import normalised
from redistill.params import Params
from tasks.locking.locked_traffic import snapshots_of
from tasks.operations.traffic_folders import traffic_folders
from tasks.paths import ARTIFACTS
from tasks.running.dvc_objects import objects
from tasks.running.dvc_stage import cache_folder

_PROMPT_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Subject:
    """``sources`` are the user's own files or sets that still have the prompt; ``notes`` say what nobody could look at. ``names`` all mean these prompts."""

    traces: Traces
    sources: tuple[str, ...]
    notes: tuple[str, ...]
    names: tuple[str, ...]


def subject_of(params: Params, name: str) -> Subject:
    """The prompts that ``name`` means.

    Raises:
        DataError: nothing here has this name.
    """
    here = _here(params)
    ids = {row.id for row in here.rows if name in (row.id, row.source_id)} | {
        r.prompt_id for r in here.requests if name in (r.id, r.prompt_id)
    }
    if not ids and _PROMPT_ID.fullmatch(name):
        # Nothing has it now; the tombstone keeps it out.
        ids = {name}
    if not ids:
        raise DataError(
            f"no prompt, row or request here is called {name!r}; give the id of a prompt, a row's own id, or a request's X-Request-Id. A request is in a file "
            "after traffic.shard_s seconds at the latest"
        )
    return _subject(params, here, ids, name)


def come_back(params: Params, digests: frozenset[str]) -> Subject | None:
    """The prompts with a tombstone that are here all the same, such as after `redistill restore`; None if there are none."""
    here = _here(params)
    every = {row.id for row in here.rows} | {request.prompt_id for request in here.requests}
    ids = {identity for identity in every if tombstone_digest(identity) in digests} if digests else set()
    return _subject(params, here, ids) if ids else None


@dataclass(frozen=True, slots=True)
class _Here:
    """Every prompt of the project and every logged request. ``sources`` are the rows of the user's sources."""

    rows: list[Prompt]
    sources: list[Prompt]
    requests: list[LoggedRequest]
    notes: list[str]


def _here(params: Params) -> _Here:
    rows, notes = _sources(params)
    return _Here([*_prompts(), *rows], rows, [row for folder in traffic_folders(params) for row in read_traffic(folder)], notes)


def _subject(params: Params, here: _Here, ids: set[str], *names: str) -> Subject:
    texts, shared = _texts_of(params, here.rows, here.requests, ids)
    every = {*names, *ids, *(row.source_id for row in here.rows if row.id in ids), *(r.id for r in here.requests if r.prompt_id in ids)}
    sources = tuple(sorted({row.source for row in here.sources if row.id in ids}))
    return Subject(Traces(frozenset(ids), tuple(sorted(texts))), sources, (*here.notes, *_left(texts, shared)), tuple(sorted(every)))


def _texts_of(params: Params, rows: list[Prompt], requests: list[LoggedRequest], ids: set[str]) -> tuple[set[str], int]:
    """The texts of these prompts that no other prompt has, and how many others have too. A greeting or a product is not one person's text."""
    shown = [(row.id, row.messages, row.columns) for row in rows] + [(r.prompt_id, r.messages, r.columns) for r in requests]
    pairs = [(identity, text) for identity, messages, columns in shown for text in _texts(messages, columns)]
    if params.data.grammar is None:
        # Labels and records are the same for many rows; a free text is of this prompt.
        pairs += [(r.prompt_id, text) for r in requests for text in (r.student, r.teacher) if text]
        pairs += [(row.id, row.label) for row in rows if row.label]
        pairs += _completions()
    others = {normalised(text) for identity, text in pairs if identity not in ids}
    # What is the system message of any prompt is the project's text.
    others |= {normalised(m.content) for _, messages, _ in shown for m in messages if m.role == "system"}
    texts = {text for identity, text in pairs if identity in ids}
    alone = {text for text in texts if normalised(text) not in others}
    return alone, len({normalised(text) for text in texts - alone})


def _texts(messages: tuple[Message, ...], columns: tuple[Column, ...]) -> Iterator[str]:
    """The texts of a prompt, each alone and as pages join them; a system message is of all prompts."""
    contents = [m.content for m in messages if m.role != "system"]
    values = [c.value for c in columns]
    yield from (*contents, *values)
    if contents:
        yield "\n".join([contents[-1], *values])
        yield "\n".join([*contents, *values])


def _left(texts: set[str], shared: int) -> Iterator[str]:
    """What was not searched for in pages and lists, so that nobody believes it was."""
    if shared:
        yield (
            f"{shared} of its texts were left in pages and lists, because other prompts have the same text; rows of this prompt are found by their id"
        )
    if short := len({form for form in map(normalised, texts) if len(form) < SHORTEST}):
        yield (
            f"{short} of its texts have fewer than {SHORTEST} characters, so they were not searched for in pages and lists; rows are found by their id"
        )


def _sources(params: Params) -> tuple[list[Prompt], list[str]]:
    """The rows of the user's sources. Without a snapshot of its traffic, those of the files."""
    try:
        return _loaded(params, snapshots_of(params.data)), []
    except RedistillError as error:
        first = error
    try:
        return _loaded(params, None), []
    except RedistillError:
        return [], [f"the sources could not be read, so it is not known whether they still have it ({first})"]


def _loaded(params: Params, snapshots: dict[str, Path] | None) -> list[Prompt]:
    return [row for rows in sources.load(params.data, Path(), snapshots).values() for row in rows]


def _prompts() -> Iterator[Prompt]:
    """Every prompt in the workspace, and in earlier versions of its files in DVC's cache."""
    files = [*sorted((ARTIFACTS / "prompts").glob("*.parquet")), *(file for _, file in objects(cache_folder()))]
    for file in files:
        if _record_of(file) == "Prompt":
            yield from iter_records(file, Prompt)


def _completions() -> Iterator[tuple[str, str]]:
    """Ids of prompts, and what models wrote for them, in files of the workspace."""
    columns = ("text", "completion", "response", "freely", "target", "reasoning")
    for file in sorted(ARTIFACTS.rglob("*.parquet")):
        if _record_of(file) not in ("TeacherCompletion", "TrainingRow", "Outcome"):
            continue
        with pq.ParquetFile(file) as parquet:
            named = [name for name in columns if name in parquet.schema_arrow.names]
            for row in parquet.read(["prompt_id", *named]).to_pylist():
                yield from ((row["prompt_id"], row[name]) for name in named if row[name])


def _record_of(file: Path) -> str:
    """The kind of record in a Parquet file; empty for any other file."""
    try:
        with open(file, "rb") as handle:
            if handle.read(4) != b"PAR1":
                return ""
        return str((pq.read_schema(file).metadata or {}).get(b"redistill.record", b"").decode())
    except (pa.ArrowInvalid, OSError):
        return ""
