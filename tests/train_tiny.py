"""``python -m tests.train_tiny MODEL TEACHER OUT METHOD[+lora] ...``: a few steps of training in one process or several, for the tests that compare them.

Each is trained in ``OUT/METHOD[+lora]``, one after the other, so that the processes start once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from safetensors.torch import save_file

from redistill.distillation.params import LoraParams
from redistill.distillation.training.examples import Examples, Supervision
from redistill.distillation.training.loop import train
from redistill.distillation.training.recipe import Recipe
from redistill.models.checkpoints import load_model
from redistill.models.tokenizers import load_tokenizer
from tests.tiny import method_of, needs_weights, soft_of, training_rows


def main(model_dir: str, teacher_dir: str, out: str, *trained: str) -> None:
    for each in trained:
        name, _, weights = each.partition("+")
        _train(model_dir, teacher_dir, Path(out) / each, name, weights)


def _train(model_dir: str, teacher_dir: str, out: Path, name: str, weights: str) -> None:
    tokenizer, teacher = load_tokenizer(model_dir), load_model(teacher_dir)
    rows = training_rows(tokenizer, 30)
    soft = {r.key: soft_of(teacher, r) for r in rows[::2]} if name == "logit" else {}
    examples = Examples(rows, soft, Supervision(0.5, "all", teacher_in_memory=needs_weights(name)))
    # Rows differ in length, so a mean per process would not be the mean of all; 10 steps of 8 rows pass the end of an epoch.
    recipe = Recipe(10, 4, 2, 1e-2, 0.1, 0.01, 7, 10**6, lora=LoraParams(rank=4) if weights == "lora" else None, precision="fp32")
    method = method_of(name, tokenizer, teacher)
    prepared = method.prepare(examples, passes=3)
    model = train(load_model(model_dir), tokenizer, prepared, recipe, out / "work", method=method)
    if int(os.environ.get("RANK", "0")) == 0:
        # As trained: a checkpoint is in bfloat16, which turns the smallest difference into one of half a percent where a weight lies between two of its numbers.
        save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, out / "weights.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
