"""Stage ``validate``: which completions may train a student, and whether the batch is fit to train on at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.data.types import Prompt
from redistill.distillation.training.rows import RowMaker
from redistill.distillation.types import TrainingRow
from redistill.errors import DataError
from redistill.io.atomic import replacing_directory
from redistill.io.json import write_json
from redistill.io.parquet import read_records, write_records
from redistill.models import checkpoints
from redistill.models.tokenizers import load_tokenizer
from redistill.runtime.progress import Progress
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherCompletion
from redistill.validation import drop_counts
from redistill.validation.completions import CompletionJudge
from redistill.validation.expectations import DerivedRow, check_batch
from redistill.validation.intake import redacted
from redistill.validation.params import IntakeParams, ValidateParams
from redistill.validation.types import Drop, DroppedRow, Keep
from tasks.locking.locked_teacher import read_lock
from tasks.paths import ARTIFACTS


def validate(data: DataParams, intake: IntakeParams, generate: GenerateParams, validate: ValidateParams) -> None:
    """Judge each completion, then the batch; write kept rows, dropped rows with reasons, and Data Docs.

    Raises:
        DataError: a batch rule failed; only dropped rows and the summary are written.
    """
    prompts = {p.id: p for split in ("pool", "calibration") for p in read_records(ARTIFACTS / "prompts" / f"{split}.parquet", Prompt)}
    pool = {p.id for p in read_records(ARTIFACTS / "prompts" / "pool.parquet", Prompt)}
    judge = CompletionJudge(data.grammar, read_records(ARTIFACTS / "prompts" / "heldout.parquet", Prompt), validate, intake, generate)
    samples: dict[str, list[TeacherCompletion]] = defaultdict(list)
    for completion in read_records(ARTIFACTS / "completions" / "completions.parquet", TeacherCompletion):
        samples[completion.prompt_id].append(completion)
    progress = Progress("validate", len(samples), "prompts")
    verdicts: list[tuple[Prompt, TeacherCompletion, Keep | Drop]] = []
    for done, (prompt_id, given) in enumerate(samples.items(), 1):
        verdicts += [(prompts[prompt_id], c, v) for c, v in judge.judge(prompts[prompt_id], given)]
        progress(done)
    lock = read_lock()
    ends = () if lock.path is None else checkpoints.end_ids_of(lock.path)
    kept = [(p, c) for p, c, v in verdicts if isinstance(v, Keep)]
    rows = RowMaker(data, load_tokenizer(ARTIFACTS / "base")).completed(kept, lock.tokenizer_digest, ends)
    derived = [_derived(p, c, v, data) for p, c, v in verdicts]
    dropped = [_dropped(p, c, v) for p, c, v in verdicts if isinstance(v, Drop)]
    for line in drop_counts.lines("validate", dropped):
        print(line, flush=True)
    summary = {"judged": len(verdicts), "kept": len(rows), "dropped": drop_counts.counts(dropped)}
    try:
        with replacing_directory(ARTIFACTS / "data_docs") as docs:
            rules = check_batch(derived, validate, generate.max_tokens, docs)
    except DataError:
        # Nothing trains on a batch that failed, but people must see why.
        with replacing_directory(ARTIFACTS / "validated") as folder:
            _write_dropped(folder, dropped, summary)
        raise
    with replacing_directory(ARTIFACTS / "validated") as folder:
        write_records(folder / "kept.parquet", TrainingRow, [r for r in rows if r.prompt_id in pool])
        write_records(folder / "calibration.parquet", TrainingRow, [r for r in rows if r.prompt_id not in pool])
        _write_dropped(folder, dropped, {**summary, "rules": rules})
    print(f"[validate] kept {len(rows)} of {len(verdicts)} completions", flush=True)


def _write_dropped(folder: Path, dropped: Sequence[DroppedRow], summary: Mapping[str, Any]) -> None:
    write_records(folder / "dropped.parquet", DroppedRow, dropped)
    write_json(folder / "summary.json", summary)


def _derived(prompt: Prompt, completion: TeacherCompletion, verdict: Keep | Drop, data: DataParams) -> DerivedRow:
    kept = isinstance(verdict, Keep)
    labels = len(data.grammar.parse(completion.text).labels) if kept and data.grammar else 0
    length = len(completion.token_ids) or len(completion.text.split())
    return DerivedRow(f"{prompt.id}/{completion.sample_index}", kept, length, completion.mean_logprob, labels, completion.teacher)


def _dropped(prompt: Prompt, completion: TeacherCompletion, verdict: Drop) -> DroppedRow:
    return DroppedRow(
        prompt.id, prompt.source_id, "validate", verdict.filter, verdict.reason, redacted(completion.text), prompt.slice, prompt.planted
    )
