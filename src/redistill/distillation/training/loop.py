"""One training loop for teacher tuning and every arm.

Which tokens are supervised, and with what weight, is decided when rows become examples (``redistill.distillation.training.examples``), and what is
lost on them by the method (``redistill.distillation.methods``). Which rows a step sees depends on neither micro-batches nor processes
(``redistill.distillation.training.sampler``).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments

from redistill.distillation.methods.base import Method
from redistill.distillation.params import LoraParams
from redistill.distillation.training.batch import collate
from redistill.distillation.training.callbacks import MetricsFile, Watch, Watched
from redistill.distillation.training.examples import Example
from redistill.distillation.training.recipe import Recipe, lengths_of, plain_attention_bytes
from redistill.distillation.training.sampler import TrainingOrder
from redistill.distillation.training.trainer import DistillTrainer
from redistill.errors import ConfigError, DataError
from redistill.io.atomic import is_disk_error
from redistill.models.lm_head import check_supported_head
from redistill.models.tokenizers import vocabulary_size
from redistill.runtime.precision import resolved, training_device
from redistill.runtime.progress import continues


def train(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    recipe: Recipe,
    work: Path,
    method: Method,
    progress: Any = None,
    watch: Watch | None = None,
) -> Any:
    """Train and return the model (LoRA merged). Resumes from the newest whole checkpoint in ``work``.

    ``watch`` is shown the model after every step. Under ``torchrun`` every process takes its share of each batch; what is trained does not depend on how many there are
    (of ``on_policy``: which rows; its samples do).

    Raises:
        DataError: nothing to train on, or a head that the losses do not support.
        ConfigError: a batch that cannot be shared evenly, or several GPUs in one process.
    """
    if not examples:
        raise DataError(
            "no rows to train on: all were dropped; the stages prepare and validate print why, and the report's section Governance"
        )
    check_supported_head(model)
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    if recipe.freeze_embeddings:
        # Of a small student's parameters and optimiser work the embeddings are nearly half, and a cut leaves them intact.
        model.get_input_embeddings().weight.requires_grad_(False)
    if recipe.lora is not None:
        model = _with_lora(model, recipe.lora)
    arguments = _arguments(recipe, work)
    model.train()
    trainer = DistillTrainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=lambda rows: collate(rows, tokenizer.pad_token_id, method.temperature).as_mapping(),
        callbacks=[MetricsFile(work / "metrics.jsonl", progress)],
        method=method,
        vocabulary=vocabulary_size(tokenizer),
        order=TrainingOrder(lengths_of(examples).tolist(), recipe.batch_size * recipe.gradient_accumulation, recipe.steps, recipe.seed),
    )
    trainer.remove_callback(PrinterCallback)
    if watch is not None:
        trainer.add_callback(Watched(watch, model, tokenizer))
    with _attention_for_training(model, recipe, examples, arguments):
        _run(trainer, work)
    model = trainer.accelerator.unwrap_model(trainer.model)
    trainer.give_back()
    return (model.merge_and_unload() if recipe.lora is not None else model).eval()


def _arguments(recipe: Recipe, work: Path) -> TrainingArguments:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.batch_size % processes:
        raise ConfigError(
            f"finetune.common.batch_size={recipe.batch_size} cannot be shared by {processes} processes; set it to a multiple of {processes}"
        )
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size // processes,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(recipe.warmup_share * recipe.steps),
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=resolved(recipe.precision, training_device()) == "bf16",
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,
        label_names=["labels"],
        logging_steps=10,
        save_steps=recipe.save_every_steps,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    if arguments.n_gpu > 1:
        raise ConfigError(
            f"{arguments.n_gpu} GPUs in one process; set finetune.common.processes to their number, or make one GPU visible with CUDA_VISIBLE_DEVICES"
        )
    return arguments


@contextlib.contextmanager
def _attention_for_training(model: Any, recipe: Recipe, examples: Sequence[Example], arguments: TrainingArguments) -> Iterator[None]:
    """Plain attention where it is faster and fits: in bf16 on a CPU the fused one's backward pass takes five times as long as plain products; in float32 it does not."""
    attention = model.config._attn_implementation
    plain_bytes = plain_attention_bytes(model.config, examples, recipe.batch_size)
    if arguments.bf16 and arguments.use_cpu and plain_bytes <= recipe.plain_attention_limit_bytes:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)


def _run(trainer: DistillTrainer, work: Path) -> None:
    """Train to the end, from the newest whole checkpoint in ``work`` if there is one."""
    checkpoint = newest_checkpoint(work)
    if checkpoint is not None:
        continues("training", f"from {Path(checkpoint).name} of an earlier run")
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except Exception as error:
        # Writing checkpoints and metrics is the loop's only disk access.
        if not is_disk_error(error):
            raise
        raise DataError(
            f"could not write a checkpoint to {work}: {error}; free some space or fix its permissions, then run again"
        ) from error


def newest_checkpoint(work: Path) -> str | None:
    """The last complete checkpoint. The Trainer writes its state file last, and not atomically."""

    def whole_state(folder: Path) -> bool:
        try:
            return bool(json.loads((folder / "trainer_state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return False

    whole = [p for p in work.glob("checkpoint-*") if whole_state(p)]
    return str(max(whole, key=lambda p: int(p.name.rsplit("-", 1)[1]))) if whole else None


def _with_lora(model: Any, lora: LoraParams) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, config)
