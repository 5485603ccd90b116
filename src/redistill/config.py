"""``params.yaml`` as a frozen tree, read once at the edge.

A function takes its own slice (``generate(params: GenerateParams, …)``), never the whole tree. Unknown and missing keys,
wrong types and impossible values are all reported at once, each on its own line with the key's full path. Defaults
live here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, PlainValidator, TypeAdapter, ValidationError, model_validator

from redistill.errors import ConfigError
from redistill.finetune_params import ArmParams as ArmParams
from redistill.finetune_params import FinetuneCommonParams as FinetuneCommonParams
from redistill.finetune_params import FinetuneParams
from redistill.finetune_params import LoraParams as LoraParams
from redistill.finetune_params import MethodParams as MethodParams
from redistill.frozen import Positive, Share, Whole, frozen
from redistill.grammar import RecordGrammar
from redistill.promote_params import Metric, PromoteParams
from redistill.records import SPLITS
from redistill.unique_keys import UniqueKeys


@frozen
class SourceParams:
    """One file or hub data set, and the splits that its rows are hashed into."""

    path: str
    splits: dict[str, Share]

    @model_validator(mode="after")
    def _splits_known(self) -> SourceParams:
        unknown = sorted(set(self.splits) - set(SPLITS))
        if unknown:
            raise ValueError(f"unknown split {', '.join(unknown)}; the splits are {', '.join(SPLITS)}")
        total = sum(self.splits.values())
        if not 0 < total <= 1 + 1e-9:
            raise ValueError(f"shares of {self.path} sum to {total:g}; they must lie in (0, 1]")
        return self


@frozen
class ColumnParams:
    text: str = "text"
    label: str = "label"
    id: str = "id"
    slice: str = "slice"


@frozen
class RecordParams:
    """The grammar of the student's line; see ``redistill.grammar``."""

    labels: tuple[str, ...]
    flags: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    several: bool = False

    @model_validator(mode="after")
    def _spellable(self) -> RecordParams:
        names = [*self.labels, *self.flags, *self.entities]
        odd = [n for n in names if not n.strip() or n != n.strip() or set(n) & set("+;=\n")]
        if odd:
            raise ValueError(f"{odd[0]!r} cannot be spelled in a record: names hold no '+', ';', '=' or line break")
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} stands twice among labels, flags and entities; each name once")
        return self


DEFAULT_SPLITS = {"train": 0.2, "dev": 0.1, "pool": 0.4, "calibration": 0.1, "heldout": 0.2}


def _as_sources(given: object) -> object:
    """One path alone is a source with the default splits."""
    return [{"path": given, "splits": DEFAULT_SPLITS}] if isinstance(given, str) else given


@frozen
class DataParams:
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    source: Annotated[tuple[SourceParams, ...], BeforeValidator(_as_sources), Field(min_length=1)]
    task: Literal["classification", "record", "generation"]
    record: RecordParams | None = None
    columns: ColumnParams = Field(default_factory=ColumnParams)
    format: Literal["plain", "chat"] = "plain"
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    prompt_template: str = "{text}\n=>"
    max_rows: Positive | None = None

    @model_validator(mode="after")
    def _whole(self) -> DataParams:
        if self.task != "generation" and (self.record is None or not self.record.labels):
            raise ValueError(f"task: {self.task} needs record.labels, the labels that a completion may hold")
        if "{text}" not in self.prompt_template:
            raise ValueError("prompt_template must contain {text}, the place of the message")
        if self.stop and self.task != "generation":
            raise ValueError(f"stop is for task: generation; a completion of task: {self.task} is one line, and ends with it")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Where a completion ends besides the model's own end token: a record with its line, free text where ``stop`` says."""
        return self.stop if self.task == "generation" else ("\n",)

    @property
    def grammar(self) -> RecordGrammar | None:
        """What a completion may hold; None where it is free text."""
        if self.record is None or self.task == "generation":
            return None
        r = self.record
        return RecordGrammar(r.labels, r.flags, r.entities, r.several)


@frozen
class IntakeParams:
    """What is judged before any teacher call."""

    max_chars: Positive = 2000
    min_chars: Positive = 2
    languages: tuple[str, ...] = ("en",)
    min_language_confidence: Share = 0.6
    near_duplicate: Share = 0.5
    pii: bool = True
    secrets: bool = True
    profanity: bool = True


@frozen
class LicenceReview:
    """One reviewed licence or set of terms: what was read (its digest), by whom, when, until when."""

    name: str
    covers: Literal["teacher", "outputs", "data"]
    licence: str
    terms_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    terms: str
    reviewer: str
    reviewed: dt.date
    expires: dt.date
    allowed: bool


@frozen
class GovernanceParams:
    """``purpose`` is what the student is for, in a sentence or two; it opens the model card."""

    licenses: tuple[LicenceReview, ...]
    purpose: str = "It answers one narrow task in its teacher's stead."


@frozen
class TeacherParams:
    """The raw teacher: a local directory, a hub id, ``package:NAME/FILE.gguf``, ``models:/…``, or an endpoint's model."""

    model: str
    backend: Literal["vllm", "openai", "transformers"] = "vllm"
    revision: str | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    max_concurrency: Positive = 8
    max_retries: Annotated[int, Field(ge=0)] = 5
    budget_tokens: Positive | None = None
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    usd_per_million_prompt_tokens: Annotated[float, Field(ge=0)] = 0.0
    usd_per_million_completion_tokens: Annotated[float, Field(ge=0)] = 0.0


@frozen
class TuneTeacherParams:
    method: Literal["off", "lora", "full"] = "off"
    epochs: Annotated[float, Field(gt=0)] = 3.0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    batch_size: Positive = 16
    warmup_share: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    freeze_embeddings: bool = False
    seed: Whole = 7
    lora: LoraParams = Field(default_factory=LoraParams)


@frozen
class GenerateParams:
    samples: Positive = 1
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_tokens: Positive = 48
    top_k: Annotated[int, Field(ge=0, strict=True)] = 0
    seed: Whole = 7
    batch_rows: Positive = 128


@frozen
class ValidateParams:
    min_mean_logprob: Annotated[float, Field(le=0.0)] = -1.0
    min_agreement: Share = 0.5
    max_repetition: Share = 0.6
    heldout_quote_words: Positive = 8
    min_kept_share: Share = 0.5
    min_rows: Positive = 20


@frozen
class ScoreParams:
    """Soft targets: ``top_k`` 0 turns the stage off. ``temperatures`` are those that training may use.

    ``bits`` is how finely probabilities are kept: size against error, see docs/benchmarks.md; left out, it is 8, and 12 where there are temperatures
    other than 1, since heat raises what was rounded.
    """

    top_k: Annotated[int, Field(ge=0, strict=True)] = 32
    bits: Annotated[int, Field(ge=4, le=16, strict=True)] | None = None
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    batch_tokens: Positive = 4096

    @property
    def coded_bits(self) -> int:
        """What ``bits`` says, or what fits the temperatures."""
        return self.bits or (8 if set(self.temperatures) <= {1.0} else 12)


@frozen
class PruneParams:
    """Which layers of the base stay: ``keep`` counts with a ``choice`` of pattern, or ``listed`` ones."""

    keep: Positive | None = None
    choice: Literal["early_and_last_two", "even", "first_and_last"] = "early_and_last_two"
    listed: Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> PruneParams:
        if (self.keep is None) == (self.listed is None):
            raise ValueError("give either keep (how many layers) or listed (which ones), not both")
        return self


@frozen
class StudentParams:
    model: str
    init: Literal["prune", "copy", "config"] = "prune"
    layers: PruneParams | None = None
    config_overrides: dict[str, int] = Field(default_factory=dict)
    seed: Whole = 7

    @model_validator(mode="after")
    def _whole(self) -> StudentParams:
        if self.init == "prune" and self.layers is None:
            raise ValueError("init: prune needs layers (how many, or which)")
        return self


@frozen
class BenchmarkParams:
    """How models are measured.

    ``threads``: CPU threads of one benchmark; as many benchmarks run at once as fit on the cores. By default each has all of them.
    ``fairness`` names a file of counterfactual pairs; ``tasks`` are lm-eval benchmarks outside the task (names, or YAML files), each cut to its
    first ``task_rows``. ``latency_requests`` are timed with student and teacher in turns; fewer than six give no interval.
    """

    batch_size: Positive = 32
    threads: Positive | None = None
    max_tokens: Positive = 48
    latency_requests: Annotated[int, Field(ge=6, strict=True)] = 24
    bootstrap: Positive = 1000
    seed: Whole = 7
    fairness: str | None = None
    tasks: tuple[str, ...] = ()
    task_rows: Positive | None = None

    @property
    def files(self) -> list[str]:
        """What a benchmark reads besides the held-out rows."""
        return [*([self.fairness] if self.fairness else []), *(t for t in self.tasks if t.endswith(".yaml"))]


def _point_of_sweep(given: object) -> int | str:
    if given == "teacher" or (isinstance(given, int) and not isinstance(given, bool) and given > 0):
        return given  # type: ignore[return-value]
    raise ValueError(f"{given!r} is neither a number of layers nor teacher")


@frozen
class SweepParams:
    """Students of other depths, for the curve of size against quality in the report: numbers of kept layers, and ``teacher`` for its own point.

    ``layers`` is read by dvc.yaml too, so it has no default; empty turns the sweep off.
    """

    layers: tuple[Annotated[int | str, PlainValidator(_point_of_sweep)], ...]


@frozen
class SpaceParams:
    """Where ``redistill tune`` looks: two ends of a range, or a list of choices; what is left out stays as params have it."""

    alpha: tuple[Share, Share] | None = (0.1, 1.0)
    learning_rate: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = (2e-4, 3e-3)
    layers: tuple[Positive, ...] = ()
    temperature: tuple[Annotated[float, Field(gt=0)], ...] = ()

    @model_validator(mode="after")
    def _ascending(self) -> SpaceParams:
        for name in ("alpha", "learning_rate"):
            ends = getattr(self, name)
            if ends is not None and ends[0] >= ends[1]:
                raise ValueError(f"{name}: {list(ends)} must be two ends, the smaller first")
        if self.alpha is not None and self.alpha[0] == 0.0:
            raise ValueError("alpha: a range begins above 0; what alpha 0 gives is the arm sft")
        return self


@frozen
class TuneParams:
    """``redistill tune``: at most so many trials and minutes, each trained on ``tokens`` [what ``finetune.common`` says], on the dev split."""

    trials: Positive = 20
    minutes: Annotated[float, Field(gt=0)] = 60.0
    tokens: Positive | None = None
    seed: Whole = 7
    space: SpaceParams = Field(default_factory=SpaceParams)


@frozen
class EconomicsParams:
    """What things cost here, and how much traffic there is. Without a price nothing is priced: money is never invented.

    ``machine_usd_per_hour`` prices whatever runs on this machine; a teacher behind an endpoint is priced by its tokens, in ``teacher``. Of the
    ``cycles_per_month`` that are started, ``changes_per_month`` find something changed and are charged whole; without it, as many as the history
    of the last 30 days has.
    """

    machine_usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    requests_per_month: Positive = 100_000
    cycles_per_month: Positive = 30
    changes_per_month: Positive | None = None


@frozen
class ScheduleParams:
    nightly_cron: str = "0 2 * * *"
    watch_cron: str = "*/30 * * * *"


@frozen
class Params:
    data: DataParams
    intake: IntakeParams
    governance: GovernanceParams
    teacher: TeacherParams
    tune_teacher: TuneTeacherParams
    generate: GenerateParams
    validate: ValidateParams
    score: ScoreParams
    student: StudentParams
    finetune: FinetuneParams
    benchmark: BenchmarkParams
    promote: PromoteParams
    sweep: SweepParams
    tune: TuneParams = Field(default_factory=TuneParams)
    economics: EconomicsParams = Field(default_factory=EconomicsParams)
    schedule: ScheduleParams = Field(default_factory=ScheduleParams)

    @model_validator(mode="after")
    def _fit_together(self) -> Params:
        problems = []
        for name, arm in self.finetune.arms.items():
            for key in ("alpha", "prompt_weight"):
                if getattr(arm, key) > 0 and arm.rows == "gold":
                    problems.append(f"finetune.arms.{name}: {key}={getattr(arm, key):g} needs the teacher's rows, but rows is gold")
            method = arm.learns_by(self.finetune.method)
            if arm.alpha > 0 and method.name == "sequence":
                problems.append(
                    f"finetune.arms.{name}: alpha={arm.alpha:g} weighs the teacher's probabilities, which method sequence does not use; set alpha to 0"
                )
            if method.in_memory and self.teacher.backend == "openai":
                problems.append(
                    f"finetune.arms.{name}: method {method.name} needs the teacher's weights in memory, but teacher.backend is openai; use logit or sequence"
                )
            if method.name == "logit" and arm.temperature != 1.0 and arm.temperature not in self.score.temperatures:
                problems.append(
                    f"finetune.arms.{name}.temperature={arm.temperature:g} is not in score.temperatures="
                    f"{list(self.score.temperatures)}: a cached top-k cannot be re-tempered without its log Z_T; add it there"
                )
            if method.name == "logit" and arm.temperature != 1.0 and self.score.top_k == 0:
                problems.append(
                    f"finetune.arms.{name}.temperature={arm.temperature:g} needs the score stage's log Z_T, but score.top_k is 0"
                )
            if method.name == "logit" and self.score.top_k == 0 and self.generate.top_k == 0:
                problems.append(f"finetune.arms.{name}.alpha={arm.alpha:g} needs soft targets; set score.top_k or generate.top_k")
        tuned = self.finetune.arms.get(self.promote.arm)
        if tuned is not None and tuned.learns_by(self.finetune.method).name == "logit":
            strange = sorted(set(self.tune.space.temperature) - {1.0, *self.score.temperatures})
            if strange:
                problems.append(
                    f"tune.space.temperature={strange[0]:g} is not in score.temperatures={list(self.score.temperatures)}; add it there"
                )
        if self.promote.arm not in self.finetune.arms:
            problems.append(f"promote.arm={self.promote.arm!r} is no arm; the arms are {', '.join(self.finetune.arms)}")
        problems += self._judged_by()
        record = self.data.record
        critical = set(self.promote.critical_labels) - set((*record.labels, *record.flags) if record else ())
        if critical:
            problems.append(f"promote.critical_labels.{min(critical)} is no label or flag of data.record")
        if self.benchmark.fairness is None and any(g.name == "fairness" for g in self.promote.gates):
            problems.append("promote.gates lists 'fairness', but benchmark.fairness names no file of counterfactual pairs")
        if self.finetune.common.tokens < self.finetune.common.batch_size:
            problems.append("finetune.common.tokens is less than one batch")
        if len(set(self.sweep.layers)) < len(self.sweep.layers):
            problems.append("sweep.layers lists a depth twice")
        if "teacher" in self.sweep.layers and self.teacher.backend == "openai":
            problems.append("sweep.layers lists teacher, but the size of an endpoint (teacher.backend: openai) is not known; leave it out")
        if self.tune_teacher.method != "off" and self.teacher.backend == "openai":
            problems.append("tune_teacher.method must be off for teacher.backend: openai; an endpoint cannot be tuned from here")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _judged_by(self) -> list[str]:
        """Fill in the metric that the task implies, and say what a chosen one lacks."""
        if self.promote.metric is None:
            metric: Metric = "chrf" if self.data.grammar is None else "exact_match"
            # Frozen for everybody else: this is still its construction.
            object.__setattr__(self, "promote", dataclasses.replace(self.promote, metric=metric))  # type: ignore[type-var]
        elif self.promote.metric == "row_f1" and self.data.grammar is None:
            return ["promote.metric: row_f1 counts the items of a record, but free text (data.task: generation) has none; use chrf"]
        return []


def load_params(path: str | os.PathLike[str] = "params.yaml") -> Params:
    """Read, check and freeze ``params.yaml``.

    Raises:
        ConfigError: absent, not YAML, or one line for each unknown key, missing key, wrong type and impossible value.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file} not found: run this from a project directory, or name one with -C DIR") from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a directory, not a file; name the project directory that holds it with -C DIR") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    try:
        tree = yaml.load(text, Loader=UniqueKeys)  # noqa: S506 - a SafeLoader subclass
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    return parse_params(tree, str(file))


def parse_params(tree: object, where: str = "params") -> Params:
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} must hold a mapping of sections (data, intake, …), not {type(tree).__name__}")
    try:
        return TypeAdapter(Params).validate_python(tree)
    except ValidationError as error:
        lines = [_describe(e) for e in error.errors(include_url=False)]
        raise ConfigError(f"{where}: {len(lines)} problem{'s' * (len(lines) > 1)}: " + " | ".join(lines)) from None


def _describe(problem: Any) -> str:
    skip = {"tuple[SourceParams, ...]", "function-after[_splits_known(), SourceParams]"}
    key = ".".join(str(part) for part in problem["loc"] if str(part) not in skip) or "(whole file)"
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key} is not a known key"
    if problem["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = "" if isinstance(given, dict | list) or problem["type"] == "value_error" else f" (given: {given!r})"
    return f"{key}: {message}{shown}"
