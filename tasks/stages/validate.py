"""Stage ``validate``: which completions may train a student, and whether the batch is fit to train on at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from redistill.data.grammars.types import labels_in
from redistill.data.params import DataParams
from redistill.data.types import Prompt
from redistill.distillation.training.rows import RowMaker
from redistill.distillation.types import TrainingRow
from redistill.errors import DataError
from redistill.io.atomic import replacing_directory
from redistill.io.json import write_json
from redistill.io.parquet import iter_records, read_records, write_records
from redistill.models import checkpoints
from redistill.models.tokenizers import encode_all, load_tokenizer
from redistill.runtime.in_chunks import CHUNK, in_chunks
from redistill.runtime.progress import Progress
from redistill.teacher.params import GenerateParams
from redistill.teacher.requests import requests_for
from redistill.teacher.types import TeacherCompletion
from redistill.validation import drop_counts
from redistill.validation.completions import CompletionJudge
from redistill.validation.expectations import DerivedRow, check_batch
from redistill.validation.intake import redacted
from redistill.validation.params import IntakeParams, ValidateParams
from redistill.validation.types import Drop, DroppedRow
from tasks.locking.locked_teacher import LockedTeacher, read_lock
from tasks.paths import ARTIFACTS

_TOGETHER = 1000


def validate(data: DataParams, intake: IntakeParams, generate: GenerateParams, validate: ValidateParams) -> None:
    """Judge each completion, then the batch; write kept rows, dropped rows with reasons, and Data Docs.

    Raises:
        DataError: a batch rule failed; only dropped rows and the summary are written.
    """
    pool = {p.id: p for p in read_records(ARTIFACTS / "prompts" / "pool.parquet", Prompt)}
    prompts = {**pool, **{p.id: p for p in read_records(ARTIFACTS / "prompts" / "calibration.parquet", Prompt)}}
    judge = CompletionJudge(data.grammar, read_records(ARTIFACTS / "prompts" / "heldout.parquet", Prompt), validate, intake, generate)
    verdicts = _verdicts(prompts, judge)
    kept = [(p, c) for p, c, drop in verdicts if drop is None]
    derived = [_derived(p, c, drop is None, data) for p, c, drop in verdicts]
    dropped = [_dropped(p, c, drop) for p, c, drop in verdicts if drop is not None]
    for line in drop_counts.lines("validate", dropped):
        print(line, flush=True)
    summary = {"judged": len(verdicts), "kept": len(kept), "dropped": drop_counts.counts(dropped)}
    try:
        with replacing_directory(ARTIFACTS / "data_docs") as docs:
            rules = check_batch(derived, validate, generate.max_tokens, docs)
    except DataError:
        # Nothing trains on a batch that failed, but people must see why.
        with replacing_directory(ARTIFACTS / "validated") as folder:
            _write_dropped(folder, dropped, summary)
        raise
    with replacing_directory(ARTIFACTS / "validated") as folder:
        write_records(folder / "kept.parquet", TrainingRow, _rows([pair for pair in kept if pair[0].id in pool], data))
        write_records(folder / "calibration.parquet", TrainingRow, _rows([pair for pair in kept if pair[0].id not in pool], data))
        _write_dropped(folder, dropped, {**summary, "rules": rules})
    print(f"[validate] kept {len(kept)} of {len(verdicts)} completions", flush=True)


def _write_dropped(folder: Path, dropped: Sequence[DroppedRow], summary: Mapping[str, Any]) -> None:
    write_records(folder / "dropped.parquet", DroppedRow, dropped)
    write_json(folder / "summary.json", summary)


def _verdicts(prompts: Mapping[str, Prompt], judge: CompletionJudge) -> list[tuple[Prompt, TeacherCompletion, Drop | None]]:
    """Each completion with its prompt, and why it is dropped."""
    samples: dict[str, list[TeacherCompletion]] = defaultdict(list)
    for completion in iter_records(ARTIFACTS / "completions" / "completions.parquet", TeacherCompletion):
        samples[completion.prompt_id].append(completion)
    asked = [(prompts[prompt_id], completions) for prompt_id, completions in samples.items()]
    progress = Progress("validate", len(asked), "prompts")
    drops, done = list[Drop | None](), 0
    for chunk in in_chunks(partial(_drops, judge=judge), asked):
        drops += chunk
        done += CHUNK
        progress(min(done, len(asked)))
    return [(p, c, drop) for (p, c), drop in zip(((p, c) for p, given in asked for c in given), drops, strict=True)]


def _drops(asked: Sequence[tuple[Prompt, list[TeacherCompletion]]], judge: CompletionJudge) -> list[Drop | None]:
    return [v if isinstance(v, Drop) else None for prompt, completions in asked for _, v in judge.judge(prompt, completions)]


def _rows(kept: Sequence[tuple[Prompt, TeacherCompletion]], data: DataParams) -> Iterator[TrainingRow]:
    """Rows of the kept completions, some at a time: a row's tokens take more memory than its texts."""
    lock = read_lock()
    ends = () if lock.path is None else checkpoints.end_ids_of(lock.path)
    maker = RowMaker(data, load_tokenizer(ARTIFACTS / "base"))
    for begin in range(0, len(kept), _TOGETHER):
        part = kept[begin : begin + _TOGETHER]
        yield from maker.completed(part, lock.tokenizer_digest, ends, _read_by_teacher([p for p, _ in part], lock, data))


def _read_by_teacher(prompts: Sequence[Prompt], lock: LockedTeacher, data: DataParams) -> list[list[int]]:
    """The tokens that the teacher reads of each prompt; empty where they are the student's, or not known."""
    if not lock.prompt or lock.tokenizer is None:
        return []
    return encode_all([r.prompt for r in requests_for(prompts, data, lock.tokenizer, teacher_prompt=lock.prompt)], lock.tokenizer)


def _derived(prompt: Prompt, completion: TeacherCompletion, kept: bool, data: DataParams) -> DerivedRow:
    labels = len(labels_in(data.grammar, completion.text)) if kept else 0
    length = len(completion.token_ids) or len(completion.text.split())
    return DerivedRow(f"{prompt.id}/{completion.sample_index}", kept, length, completion.mean_logprob, labels, completion.teacher)


def _dropped(prompt: Prompt, completion: TeacherCompletion, verdict: Drop) -> DroppedRow:
    return DroppedRow(
        prompt.id, prompt.source_id, "validate", verdict.filter, verdict.reason, redacted(completion.text), prompt.slice, prompt.planted
    )
