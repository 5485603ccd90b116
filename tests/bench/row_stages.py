"""What ``tests.bench.rows`` measures: for each part of a cycle, the files that it reads and the call that reads them."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from redistill.data.params import DataParams, RecordParams, SourceParams
from redistill.data.types import Message, Prompt
from redistill.io.json import write_json
from redistill.io.parquet import write_records
from redistill.teacher.types import TeacherCompletion
from tests.bench.row_source import LABELS, rows, write

SHARES = {"train": 0.1, "dev": 0.02, "pool": 0.78, "calibration": 0.03, "heldout": 0.05, "monitor": 0.02}
DATA = DataParams(
    name="rows", task="classification", record=RecordParams(labels=LABELS), source=(SourceParams(path="rows.jsonl", splits=SHARES),)
)
TEACHER = "d" * 64
_LOCK = {
    "source": {"model": "m", "backend": "openai"},
    "current": {"name": "m", "digest": TEACHER, "parts": {}},
    "answers_from": {"default": TEACHER},
    "capabilities": {"logprobs": "none", "max_k": 0, "tokenizer_digest": None},
    "licence": {},
}
_OTHERS = 10
"""One row of ten is in each of the splits that are not asked of the teacher, up to so many."""
_MOST_OTHERS = 20_000


def _prompts(count: int, seed: int, label: bool) -> Iterator[Prompt]:
    for row in rows(count, seed):
        yield Prompt.of((Message("user", row["text"]),), f"{seed}:{row['id']}", row["slice"], row["label"] if label else None, "rows.jsonl")


def _asked(count: int) -> Iterator[Prompt]:
    """Prompts of the pool: each only once, as intake leaves them."""
    for number, prompt in enumerate(_prompts(count, 1, label=False)):
        yield Prompt.of((Message("user", f"{prompt.text} {number}"),), prompt.source_id, prompt.slice, None, prompt.source)


def set_up_prepare(folder: Path, count: int) -> None:
    write(folder / "rows.jsonl", count)


def set_up_cycle(folder: Path, count: int) -> None:
    """A project after ``generate``: ``count`` prompts with a completion, and labelled rows."""
    from tests.tiny import make_tiny_model

    make_tiny_model(folder / "artifacts" / "base")
    write_json(folder / "teacher.lock.json", _LOCK)
    others = min(count // _OTHERS, _MOST_OTHERS)
    prompts = folder / "artifacts" / "prompts"
    write_records(prompts / "pool.parquet", Prompt, _asked(count))
    for seed, split in enumerate(("calibration", "train", "dev", "heldout", "monitor"), 2):
        write_records(prompts / f"{split}.parquet", Prompt, _prompts(others if split != "calibration" else 0, seed, label=True))
    completions = (
        TeacherCompletion(p.id, 0, LABELS[n % len(LABELS)] if n % 50 else "I am sorry, but I cannot", None, (1, 2), "stop", TEACHER, -0.1)
        for n, p in enumerate(_asked(count))
    )
    write_records(folder / "artifacts" / "completions" / "completions.parquet", TeacherCompletion, completions)


def set_up_training(folder: Path, count: int) -> None:
    """The same after ``validate``."""
    from redistill.distillation.training.rows import RowMaker
    from redistill.distillation.types import TrainingRow
    from redistill.models.tokenizers import load_tokenizer

    set_up_cycle(folder, count)
    maker = RowMaker(DATA, load_tokenizer(folder / "artifacts" / "base"))
    kept = ((p, TeacherCompletion(p.id, 0, LABELS[0], None, (1, 2), "stop", TEACHER, -0.1)) for p in _asked(count))
    write_records(folder / "artifacts" / "validated" / "kept.parquet", TrainingRow, (maker.completed([pair], None)[0] for pair in kept))


def set_up_report(folder: Path, count: int) -> None:
    from redistill.validation.types import DroppedRow

    set_up_cycle(folder, count)
    artifacts = folder / "artifacts"
    dropped = (
        DroppedRow(p.id, p.source_id, "prepare", "near_duplicate", "near-duplicate of an earlier row", p.text[:200], p.slice)
        for p in _asked(count // 10)
    )
    write_records(artifacts / "prompts" / "quarantine.parquet", DroppedRow, dropped)
    write_records(artifacts / "validated" / "dropped.parquet", DroppedRow, [])
    for name in ("prompts", "validated"):
        write_json(artifacts / name / "summary.json", {})


def prepare() -> None:
    from redistill.validation.params import IntakeParams
    from tasks.stages import prepare as stage

    stage.prepare(DATA, IntakeParams())


def validate() -> None:
    from redistill.teacher.params import GenerateParams
    from redistill.validation.params import IntakeParams, ValidateParams
    from tasks.stages import validate as stage

    stage.validate(DATA, IntakeParams(), GenerateParams(), ValidateParams())


def training_rows() -> None:
    """What ``finetune`` does before its first step: rows, and examples of them."""
    from redistill.distillation.arm_params import ArmParams
    from redistill.distillation.training.examples import Examples, Supervision
    from redistill.models.tokenizers import load_tokenizer
    from tasks.training.arm import rows_of

    Examples(rows_of(DATA, ArmParams(rows="gold_and_teacher"), load_tokenizer("artifacts/base")), {}, Supervision())


def report() -> None:
    """The parts of the report that read files as long as the sources."""
    from tasks.reporting.economics import _teacher_tokens  # noqa: F401
    from tasks.reporting.report import _governance
    from tasks.reporting.summarise_cycle import teacher_use

    _governance()
    teacher_use([])


SETUPS: dict[str, Callable[[Path, int], None]] = {
    "prepare": set_up_prepare,
    "validate": set_up_cycle,
    "training rows": set_up_training,
    "report": set_up_report,
}
_PARTS = {"prepare": prepare, "validate": validate, "training rows": training_rows, "report": report}


def run(part: str) -> None:
    """Run one part in the working directory, and print its seconds, those of all cores, and the peak of this process as JSON."""
    begin, before = time.perf_counter(), sum(os.times()[:4])
    _PARTS[part]()
    seconds, cpu_s = time.perf_counter() - begin, sum(os.times()[:4]) - before
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "peak": 1024 * int(match[1]) if match else 0}))
