"""Sections ``data`` of params.yaml: sources, splits, task and template."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from redistill.config.base import Positive, Share, frozen, section
from redistill.data.grammars.json_schema import JsonGrammar
from redistill.data.grammars.record import RecordGrammar
from redistill.data.grammars.schema_check import checked
from redistill.data.grammars.types import Form, Grammar
from redistill.data.prompt_template import TEXT, placeholders
from redistill.data.types import SPLITS

UNLABELLED = ("pool", "calibration")
"""Splits whose rows need no label: the teacher completes them."""


def _check_shares(splits: dict[str, float], name: str) -> None:
    unknown = sorted(set(splits) - set(SPLITS))
    if unknown:
        raise ValueError(f"unknown split {', '.join(unknown)}; the splits are {', '.join(SPLITS)}")
    total = sum(splits.values())
    if not 0 < total <= 1 + 1e-9:
        raise ValueError(f"shares of {name} sum to {total:g}; they must lie in (0, 1]")


@frozen
class SourceParams:
    """One file or hub data set, and the splits that its rows are hashed into."""

    path: str
    """JSONL or CSV file (also with `.gz`), Parquet file, `hf:owner/name[#config][@revision][:split]`, or `hf:/directory` in hub layout."""
    splits: dict[str, Share]
    """Shares over `train`, `dev`, `pool`, `calibration`, `heldout` and `monitor`. A row belongs to a split by a hash of its text. Logged prompts have no label, so
    of traffic only `pool` and `calibration`."""

    @model_validator(mode="after")
    def _splits_known(self) -> SourceParams:
        _check_shares(self.splits, self.path)
        return self


@frozen
class TrafficSourceParams:
    """Logged prompts of production, and the splits that they are hashed into: [traffic as a source](data.md#traffic-as-a-source)."""

    traffic: Annotated[str, Field(min_length=1)]
    """Instead of `path`: `router` for what the router logged, or a folder of imported traces, such as `.redistill/imports`."""
    splits: dict[str, Share]
    """As for a file."""
    max_rows: Positive = 2000
    """Of traffic: the most rows that a cycle takes."""
    by: Annotated[tuple[Literal["slice", "novelty"], ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)] = (
        "slice",
        "novelty",
    )
    """Of traffic: what the rows are spread over evenly. `novelty`: how unlike the prompts of the other sources a prompt is. An empty list: a random choice."""
    replaced: bool = False
    """Of traffic: whether rows are taken in which personal data or a secret was replaced. They are not what a caller sent."""

    @model_validator(mode="after")
    def _unlabelled(self) -> TrafficSourceParams:
        _check_shares(self.splits, self.path)
        if labelled := [name for name, share in self.splits.items() if share and name not in UNLABELLED]:
            raise ValueError(
                f"{self.path} gives rows to {', '.join(labelled)}, but logged prompts have no label; use the splits {' and '.join(UNLABELLED)} only, and "
                "`redistill labels export` for rows that people label"
            )
        return self

    @property
    def path(self) -> str:
        """The name of the source, as a licence review lists it."""
        return f"traffic:{self.traffic}"


@frozen
class ColumnParams:
    """Names of the columns of a source."""

    text: str = "text"
    """The message. A source may have conversations instead ([formats](data.md#formats))."""
    label: str = "label"
    """The label; may be missing in sources of `pool` and `calibration` only. A conversation that ends with the assistant's turn has its label there."""
    id: str | None = "id"
    """The user's own key of a row; unique over all sources. `null`: rows are named by their file and line."""
    slice: str | None = "slice"
    """A property of a row that is known without its label, such as the channel or the language. `null`: all rows are one slice."""


@frozen
class RecordParams:
    """What a completion may contain, for `classification` and `record`."""

    labels: tuple[str, ...]
    """Every label."""
    flags: tuple[str, ...] = ()
    """Names that may follow the labels, such as `urgent`."""
    entities: tuple[str, ...] = ()
    """Kinds of values that may follow as `KIND=VALUE`, copied from the message."""
    several: bool = False
    """Whether a record may have more than one label."""

    @model_validator(mode="after")
    def _spellable(self) -> RecordParams:
        names = [*self.labels, *self.flags, *self.entities]
        odd = [n for n in names if not n.strip() or n != n.strip() or set(n) & set("+;=\n")]
        if odd:
            raise ValueError(f"{odd[0]!r} cannot be a name in a record: names must not contain '+', ';', '=' or a line break")
        twice = sorted(n for n, count in Counter(names).items() if count > 1)
        if twice:
            raise ValueError(f"{twice[0]!r} is listed twice among labels, flags and entities; list each name once")
        return self


def completion_lead(format: Literal["plain", "chat"]) -> str:
    """What stands before a completion: after a plain template the space that a tokenizer expects."""
    return "" if format == "chat" else " "


DEFAULT_SPLITS = {"train": 0.2, "dev": 0.1, "pool": 0.4, "calibration": 0.1, "heldout": 0.2}


def _as_sources(given: object) -> object:
    """A single path is a source with the default splits."""
    return [{"path": given, "splits": DEFAULT_SPLITS}] if isinstance(given, str) else given


def _kind(value: object) -> str:
    """Which kind of source an entry is. Errors leave out names with parentheses, because they are not part of the file."""
    return "traffic()" if isinstance(value, TrafficSourceParams) or (isinstance(value, dict) and "traffic" in value) else "rows()"


AnySource = Annotated[
    Annotated[SourceParams, Tag("rows()")] | Annotated[TrafficSourceParams, Tag("traffic()")],
    Discriminator(_kind),
]


@section("data")
class DataParams:
    """Sources, splits, task and template."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)]
    """Name of the registered model: small letters, digits, hyphens; at most 100 of them, because names of runs contain it."""
    source: Annotated[tuple[AnySource, ...], BeforeValidator(_as_sources), Field(min_length=1)]
    """One path, which gets the default splits, or a list of `{path, splits}`; logged prompts are `{traffic, splits, …}`."""
    task: Literal["classification", "record", "json", "generation"]
    """`classification` (one label), `record` (a line with a grammar), `json` (a value that a schema describes) or `generation` (free text)."""
    record: RecordParams | None = None
    """What a completion may contain. Required if `task` is `classification` or `record`."""
    schema: dict[str, Any] | None = None
    """The JSON Schema of a completion. Required if `task` is `json`. References point within the schema; [more](data.md#json)."""
    structured_outputs: bool = False
    """Whether teacher and student are held to the form of a completion while they write; [what it changes](data.md#structured-outputs)."""
    columns: ColumnParams = Field(default_factory=ColumnParams)
    """Names of the columns."""
    format: Literal["plain", "chat"] = "plain"
    """`plain`: only the template. `chat`: the tokenizer's chat template around it. A chat template that states the date states the one in
    `sources.lock.json` ([ADR 21](adr/0021-template-date.md))."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """For `generation` and `json`: texts at which a completion ends, besides the end token. A record ends with its line;
    [why](gates.md#where-completions-end)."""
    prompt_template: str = "{text}\n=>"
    """How a message is shown to teacher and student. Must contain `{text}`; `{NAME}` shows the column NAME of the row, and `{{NAME}}` is `{NAME}` as text."""
    max_rows: Positive | None = None
    """Take a stable subset of so many rows of each source. Left out: all rows."""

    @model_validator(mode="after")
    def _whole(self) -> DataParams:
        if self.one_line and (self.record is None or not self.record.labels):
            raise ValueError(f"task: {self.task} needs record.labels, the labels that a completion may contain")
        if (self.task == "json") != (self.schema is not None):
            raise ValueError(
                "task: json needs schema, the JSON Schema of a completion"
                if self.schema is None
                else f"schema is for task: json only, not for task: {self.task}; remove it, or change the task"
            )
        if self.structured_outputs and self.task == "generation":
            raise ValueError("structured_outputs needs a form, but task: generation is free text; remove it")
        if self.schema is not None:
            _ = self.grammar
        if TEXT not in placeholders(self.prompt_template):
            raise ValueError("prompt_template must contain {text}, the place of the message")
        if not self.files:
            raise ValueError("source has only traffic; add a source with labelled rows, which logged prompts cannot replace")
        if twice := sorted(name for name, count in Counter(source.path for source in self.traffic).items() if count > 1):
            raise ValueError(f"source lists {twice[0]} twice; a logged prompt can be in one entry only, so keep one of them")
        if self.columns.label in self.shown_columns:
            raise ValueError(
                f"prompt_template shows {{{self.columns.label}}}, the label, so every prompt would hold its completion; remove it"
            )
        if self.stop and self.one_line:
            raise ValueError(
                f"stop is for tasks generation and json; a completion of task: {self.task} is one line and ends at the end of that line; remove stop"
            )
        return self

    @property
    def files(self) -> tuple[SourceParams, ...]:
        """The sources that are files or data sets."""
        return tuple(source for source in self.source if isinstance(source, SourceParams))

    @property
    def traffic(self) -> tuple[TrafficSourceParams, ...]:
        """The sources that are logged prompts."""
        return tuple(source for source in self.source if isinstance(source, TrafficSourceParams))

    @property
    def shown_columns(self) -> tuple[str, ...]:
        """The columns that the prompt template shows besides the message."""
        return tuple(name for name in placeholders(self.prompt_template) if name != TEXT)

    @property
    def has_monitor(self) -> bool:
        """Whether any source gives rows to the split that people look at."""
        return any(source.splits.get("monitor") for source in self.source)

    @property
    def one_line(self) -> bool:
        """Whether a completion is a label or a record, which ends with its line."""
        return self.task in ("classification", "record")

    @property
    def stops(self) -> tuple[str, ...]:
        """Where a completion ends besides the model's own end token: a record ends with its line, other text at a text in ``stop``."""
        return ("\n",) if self.one_line else self.stop

    @cached_property
    def grammar(self) -> Grammar | None:
        """What a completion may contain; None for free text."""
        return self.record_grammar if self.schema is None else JsonGrammar(checked(self.schema))

    @property
    def form(self) -> Form | None:
        """What a completion by local weights is held to; None where nothing is asked for."""
        if self.grammar is None or not self.structured_outputs:
            return None
        return replace(self.grammar.form, lead=completion_lead(self.format))

    @cached_property
    def record_grammar(self) -> RecordGrammar | None:
        """The grammar of labels and records, from which a linear model can learn; None for other tasks."""
        if self.record is None or not self.one_line:
            return None
        r = self.record
        return RecordGrammar(r.labels, r.flags, r.entities, r.several)
