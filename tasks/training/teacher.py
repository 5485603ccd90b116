"""Training of the teacher on the labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt
from redistill.data.types import Prompt
from redistill.distillation.params import TuneTeacherParams
from redistill.io.parquet import read_records
from redistill.models import checkpoints
from redistill.runtime.progress import Progress
from tasks.paths import ARTIFACTS

TRAIN = ARTIFACTS / "prompts" / "train.parquet"


def train_teacher(
    raw: Path, tokenizer: Any, data: DataParams, params: TuneTeacherParams, work: Path, progress: str = "", shown: TeacherPrompt = NO_PROMPT
) -> Any:
    """The teacher after its training on the labelled rows, LoRA merged. Continues from what an earlier run left in ``work``.

    ``shown`` is what it will be asked with. A row that is an example there is trained on without that example.
    """
    from redistill.distillation.methods.sequence import SequenceLevel
    from redistill.distillation.training.examples import Examples, Supervision
    from redistill.distillation.training.loop import train
    from redistill.distillation.training.recipe import Recipe
    from redistill.distillation.training.rows import RowMaker, that_fit

    made = RowMaker(data, tokenizer, shown).gold(read_records(TRAIN, Prompt))
    rows = that_fit(made, checkpoints.context_tokens(raw), progress or "tune_teacher")
    examples = Examples(rows, {}, Supervision())
    steps = max(1, round(params.epochs * len(examples) / params.batch_size))
    recipe = Recipe(
        steps=steps,
        batch_size=params.batch_size,
        gradient_accumulation=1,
        learning_rate=params.learning_rate,
        warmup_share=params.warmup_share,
        weight_decay=params.weight_decay,
        seed=params.seed,
        save_every_steps=max(20, steps // 4),
        lora=params.lora if params.method == "lora" else None,
        freeze_embeddings=params.freeze_embeddings,
    )
    steps_shown = Progress(progress, steps, "steps") if progress else None
    return train(checkpoints.load_model(raw), tokenizer, examples, recipe, work, SequenceLevel(), steps_shown)
