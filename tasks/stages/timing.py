"""Stage ``timing``: the student's architecture beside the teacher, in one process and in turns; all trained arms share it.

Also ``redistill stage timing --checkpoint DIR --out FILE``: the same for the architecture of any checkpoint, which is how a registered version of
another one is judged. Each model writes as many tokens as the reference completions take on average in its own tokenizer; an endpoint cannot be
told how many to write, so it is timed as it answers, over the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt
from redistill.data.templates import completion_text, render
from redistill.data.types import Prompt
from redistill.errors import DataError
from redistill.evaluation.cost import generator
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.timing import BATCH_ROWS, BATCHES, Times, Timing, architecture, evenly_spaced, in_turns, timing_to_json
from redistill.io.json import write_json
from redistill.io.parquet import read_records
from redistill.models import checkpoints
from redistill.models.tokenizers import encode, load_tokenizer
from redistill.runtime.precision import dtype_name, resolved
from redistill.runtime.progress import Progress
from redistill.teacher.params import GenerateParams, TeacherParams
from redistill.teacher.types import ENDPOINT
from tasks.locking.locked_teacher import LockedTeacher, read_lock
from tasks.paths import ARTIFACTS
from tasks.results.rows import shown_rows

TIMING = ARTIFACTS / "timing.json"

Rows = Sequence[int]


class Timed:
    """One model that can be timed on labelled rows by number. ``tokens`` is what it writes for each; None where it decides that itself."""

    def __init__(self, run: Callable[[Rows], object], tokens: int | None, architecture: str) -> None:
        self.run = run
        self.tokens = tokens
        self.architecture = architecture

    def times(self, request_s: Sequence[float], batch_s: Sequence[float], joules: float | None) -> Times:
        written = BATCH_ROWS * (self.tokens or 0) * len(batch_s)
        return Times(
            self.architecture, self.tokens, tuple(request_s), tuple(batch_s), joules / written if joules is not None and written else None
        )


def timing(data: DataParams, teacher: TeacherParams, benchmark: BenchmarkParams) -> None:
    """Write ``artifacts/timing.json``: samples of student, teacher and linear baseline, and student ÷ teacher with its interval."""
    _write(TIMING, _measured("timing", ARTIFACTS / "base", data, teacher, benchmark, with_linear=data.record_grammar is not None))


def time_checkpoint(who: str, checkpoint: Path, out: Path, data: DataParams, teacher: TeacherParams, benchmark: BenchmarkParams) -> None:
    """Write the timing of any checkpoint's architecture beside the teacher to ``out``."""
    _write(out, _measured(f"timing@{who}", checkpoint, data, teacher, benchmark, with_linear=False))


def _write(file: Path, timing: Timing) -> None:
    write_json(file, timing_to_json(timing))
    ratio = timing.request_ratio
    print(
        f"[timing] the student takes {ratio.value:.2f} times as long as the teacher for a request "
        f"({ratio.interval.low:.2f} to {ratio.interval.high:.2f}, n = {len(timing.student.request_s)})",
        flush=True,
    )


def _measured(
    label: str, checkpoint: Path, data: DataParams, teacher: TeacherParams, params: BenchmarkParams, *, with_linear: bool
) -> Timing:
    lock = read_lock()
    read_by = {checkpoint: NO_PROMPT, **({lock.path: lock.prompt} if lock.path else {})}
    prompts = _that_fit(shown_rows(data).prompts(), read_by, data, params)
    models = {"student": _local(checkpoint, prompts, data, params)}
    if with_linear:
        models["linear"] = _linear(prompts, data, params)
    requests = [[row] for row in evenly_spaced(params.latency_requests, len(prompts))]
    rows = evenly_spaced(BATCHES * BATCH_ROWS, len(prompts))
    batches = [rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS)]
    progress, done = Progress(label, len(requests) + len(batches), "requests"), iter(range(1, len(requests) + len(batches) + 1))
    with ExitStack() as opened:
        if lock.path is None:
            models["teacher"] = _endpoint(lock, prompts, data, teacher, params, opened)
        else:
            models["teacher"] = _local(lock.path, prompts, data, params, lock.prompt)
        request_s, _ = in_turns({name: model.run for name, model in models.items()}, requests, lambda: progress(next(done)))
        # An endpoint is priced by its tokens, not by its time, and each completion costs money: no batches are asked of it.
        batched = {name: model.run for name, model in models.items() if model.tokens is not None}
        batch_s, joules = in_turns(batched, batches, lambda: progress(next(done)))
    times = {name: model.times(request_s[name], batch_s.get(name, ()), joules.get(name)) for name, model in models.items()}
    backend = f"transformers-{resolved()}" if lock.path is not None else f"transformers-{resolved()}, {ENDPOINT}"
    return Timing(backend, times["student"], times["teacher"], times.get("linear"))


def _that_fit(prompts: Sequence[Prompt], read_by: Mapping[Path, TeacherPrompt], data: DataParams, params: BenchmarkParams) -> list[Prompt]:
    """The prompts that every model reads whole, with the longest completion behind them. ``read_by`` are the folders, and what each model is shown before.

    Raises:
        DataError: there are none.
    """
    kept = list(prompts)
    for folder, shown in read_by.items():
        tokenizer, context = load_tokenizer(folder), checkpoints.context_tokens(folder)
        if context is not None:
            kept = [p for p in kept if len(encode(render(p, data, tokenizer, shown), tokenizer)) + params.max_tokens <= context]
    if not kept:
        raise DataError(
            "no row fits into the context of student and teacher, so there is nothing to time; lower intake.max_chars or benchmark.max_tokens"
        )
    return kept


def _local(
    checkpoint: Path, prompts: Sequence[Prompt], data: DataParams, params: BenchmarkParams, shown: TeacherPrompt = NO_PROMPT
) -> Timed:
    tokenizer = load_tokenizer(checkpoint)
    model = checkpoints.load_model(checkpoint, dtype_name())
    model.generation_config.max_length = None
    tokens = reference_tokens(prompts, data, tokenizer, params.max_tokens)
    generate, rendered = generator(model, tokenizer, tokens), [render(p, data, tokenizer, shown) for p in prompts]
    return Timed(lambda rows: generate([rendered[i] for i in rows]), tokens, architecture(checkpoint))


def reference_tokens(prompts: Sequence[Prompt], data: DataParams, tokenizer: Any, most: int) -> int:
    """Tokens of a reference completion with its end, on average; all that a model may write where no row has a reference."""
    lengths = [len(encode(completion_text(p.label, data), tokenizer)) + 1 for p in prompts if p.label is not None]
    return min(most, max(1, round(sum(lengths) / len(lengths)))) if lengths else most


def _endpoint(
    lock: LockedTeacher, prompts: Sequence[Prompt], data: DataParams, teacher: TeacherParams, params: BenchmarkParams, opened: ExitStack
) -> Timed:
    """The endpoint, asked past the store: what is remembered says nothing about how long it takes."""
    from redistill.teacher.requests import requests_for
    from tasks.locking.open_teacher import open_teacher

    engine = open_teacher(lock, teacher, data)
    opened.callback(engine.close)
    greedy = GenerateParams(max_tokens=params.max_tokens)
    requests = requests_for(prompts, data, None, teacher_prompt=lock.prompt)
    return Timed(lambda rows: list(engine.complete([requests[i] for i in rows], greedy)), None, lock.fingerprint.digest)


def _linear(prompts: Sequence[Prompt], data: DataParams, params: BenchmarkParams) -> Timed:
    from redistill.evaluation.probes.linear_baseline import fit

    assert data.record_grammar is not None
    predict = fit(read_records(ARTIFACTS / "prompts" / "train.parquet", Prompt), data.record_grammar, params.seed)
    tokens = reference_tokens(prompts, data, load_tokenizer(ARTIFACTS / "base"), params.max_tokens)
    return Timed(lambda rows: predict([prompts[i].text for i in rows]), tokens, "linear")


ON_CHECKPOINT = time_checkpoint
"""What ``redistill stage timing --checkpoint DIR --out FILE`` calls."""
