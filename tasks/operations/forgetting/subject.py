"""Which prompts a person means: an id of a prompt, a row's own key, or the id of a request; and every text that files may have of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from redistill.data import sources
from redistill.data.traffic.shards import read_traffic
from redistill.data.types import Column, Message, Prompt
from redistill.errors import DataError, RedistillError
from redistill.io.parquet import iter_records
from redistill.operations.traces import Traces
from redistill.params import Params
from tasks.locking.locked_traffic import snapshots_of
from tasks.operations.kept.dvc_objects import objects
from tasks.paths import ARTIFACTS, TRAFFIC
from tasks.running.dvc_stage import cache_directory

_PROMPT_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Subject:
    """``sources`` are the user's own files or sets that still have the prompt; ``notes`` say where nobody could look."""

    traces: Traces
    sources: tuple[str, ...]
    notes: tuple[str, ...]


def subject_of(params: Params, name: str) -> Subject:
    """The prompts that ``name`` means.

    Raises:
        DataError: nothing here has this name.
    """
    read, notes = _sources(params)
    rows = [*_prompts(), *read]
    requests = list(read_traffic(TRAFFIC))
    ids = {row.id for row in rows if name in (row.id, row.source_id)} | {r.prompt_id for r in requests if name in (r.id, r.prompt_id)}
    if not ids and _PROMPT_ID.fullmatch(name):
        # Nothing has it now; the tombstone keeps it out.
        ids = {name}
    if not ids:
        raise DataError(
            f"no prompt, row or request here is called {name!r}; give the id of a prompt, a row's own id, or a request's X-Request-Id. A request is in a file "
            "after traffic.shard_s seconds at the latest"
        )
    about, asked = [row for row in rows if row.id in ids], [request for request in requests if request.prompt_id in ids]
    shown = [*((row.messages, row.columns) for row in about), *((request.messages, request.columns) for request in asked)]
    texts = {text for messages, columns in shown for text in _texts(messages, columns)}
    if params.data.grammar is None:
        # Labels and records are the same for many rows; a free text is of this prompt.
        texts |= {text for request in asked for text in (request.student, request.teacher) if text}
        texts |= {row.label for row in about if row.label} | set(_completions(ids))
    return Subject(Traces(frozenset(ids), tuple(sorted(texts))), tuple(sorted({row.source for row in read if row.id in ids})), tuple(notes))


def _texts(messages: Iterable[Message], columns: Iterable[Column]) -> Iterator[str]:
    """The texts of a prompt; a system message is of all prompts."""
    yield from (m.content for m in messages if m.role != "system")
    yield from (c.value for c in columns)


def _sources(params: Params) -> tuple[list[Prompt], list[str]]:
    try:
        return [row for rows in sources.load(params.data, Path(), snapshots_of(params.data)).values() for row in rows], []
    except RedistillError as error:
        return [], [f"the sources could not be read, so it is not known whether they still have it ({error})"]


def _prompts() -> Iterator[Prompt]:
    """Every prompt in the workspace, and in earlier versions of its files in DVC's cache."""
    cache = cache_directory()
    files = [*sorted((ARTIFACTS / "prompts").glob("*.parquet")), *([] if cache is None else (file for _, file in objects(cache)))]
    for file in files:
        if _record_of(file) == "Prompt":
            yield from iter_records(file, Prompt)


def _completions(ids: set[str]) -> Iterator[str]:
    """What models wrote for these prompts, in files of the workspace."""
    columns = ("text", "completion", "response", "freely", "target", "reasoning")
    for file in sorted(ARTIFACTS.rglob("*.parquet")):
        if _record_of(file) not in ("TeacherCompletion", "TrainingRow", "Outcome"):
            continue
        with pq.ParquetFile(file) as parquet:
            named = [name for name in columns if name in parquet.schema_arrow.names]
            for row in parquet.read(["prompt_id", *named]).to_pylist():
                if row["prompt_id"] in ids:
                    yield from (row[name] for name in named if row[name])


def _record_of(file: Path) -> str:
    """The kind of record in a Parquet file; empty for any other file."""
    try:
        with open(file, "rb") as handle:
            if handle.read(4) != b"PAR1":
                return ""
        return str((pq.read_schema(file).metadata or {}).get(b"redistill.record", b"").decode())
    except (pa.ArrowInvalid, OSError):
        return ""
