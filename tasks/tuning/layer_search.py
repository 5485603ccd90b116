"""``redistill layers KEEP``: which layers of the tuned teacher its student should keep, as a params patch.

This is not a stage, because a person decides and changes params.yaml. It uses train rows only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redistill.data.params import DataParams
from redistill.data.types import Prompt
from redistill.distillation.student_base import base_of
from redistill.distillation.training.rows import RowMaker
from redistill.errors import ConfigError, DataError
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.models import checkpoints
from redistill.models.params import StudentParams
from redistill.models.tokenizers import load_tokenizer
from redistill.runtime.precision import dtype_name
from redistill.runtime.progress import Progress
from redistill.teacher.params import TeacherParams
from tasks.paths import ARTIFACTS

ROWS = 16


def search_layers(
    keep: int, data: DataParams, teacher_params: TeacherParams, student_params: StudentParams, say: Callable[[str], None]
) -> dict[str, Any]:
    """Report every removal and its loss; returns the kept layers, and the patch of params.yaml.

    Raises:
        ConfigError: the student is not cut from the teacher, or ``keep`` is not a number of its layers.
        DataError: no cycle has run yet, or there are no labelled train rows.
    """
    from redistill.tuning.layer_search import greedy_cuts

    if teacher_params.backend == "openai" or base_of(student_params, teacher_params)[0] != teacher_params.model:
        raise ConfigError(
            f"student.model={student_params.model} is not a part of the local teacher ({teacher_params.model}): the search tests layers of the tuned teacher, so "
            "it does not apply to another base"
        )
    teacher, train = ARTIFACTS / "teacher", ARTIFACTS / "prompts" / "train.parquet"
    if not (teacher / "config.json").is_file() or not train.is_file():
        raise DataError(f"{teacher} or {train} is missing: the search needs a tuned teacher; run a cycle first")
    total = int(read_json(teacher / "config.json")["num_hidden_layers"])
    if not 0 < keep < total:
        raise ConfigError(f"KEEP={keep}: give a number from 1 to {total - 1}; the teacher has {total} layers")
    tokenizer = load_tokenizer(teacher)
    model = checkpoints.load_model(teacher, dtype_name()).eval()
    rows = sorted(RowMaker(data, tokenizer).gold(read_records(train, Prompt)), key=lambda r: r.prompt_id)[:ROWS]
    if not rows:
        raise DataError("the search needs labelled train rows, and there are none; give a source a share for train in data.source")
    progress = Progress("search_layers", sum(range(keep + 1, total + 1)), "cuts")
    tried = 0

    def count() -> None:
        nonlocal tried
        tried += 1
        progress(tried)

    kept: tuple[int, ...] = ()
    for cut in greedy_cuts(model, rows, keep, count):
        say(f"{len(cut.kept)} layers without {cut.dropped}: {cut.nll:.3f} nats per token")
        kept = cut.kept
    return {"layers": list(kept), "patch": {"student": {"layers": {"listed": list(kept)}}}}
