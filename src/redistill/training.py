"""One training loop for teacher tuning and every arm: transformers' Trainer with our loss.

Which tokens are supervised, and with what weight, is decided when rows become examples (``redistill.examples``), and what is lost on them by the
method (``redistill.methods``); the Trainer only adds up. The loss is normalised once, by the count of supervised tokens of a whole step, over
micro-batches and processes (KD rule 2), and which rows a step sees depends on neither (``redistill.training_order``).
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from redistill.artifacts import is_disk_error
from redistill.config import LoraParams
from redistill.errors import ConfigError, DataError
from redistill.examples import Example, ExampleData, collate
from redistill.heads import refuse_odd_heads
from redistill.losses import IGNORE, Workspace
from redistill.methods.logit import Logit
from redistill.methods.protocol import Method
from redistill.precision import Precision, resolved, training_device
from redistill.progress import continues
from redistill.prompting import vocabulary_size
from redistill.training_order import TrainingOrder

Watch = Callable[[Any, Any, int, int], None]
"""(model, tokenizer, step, of), after every optimiser step."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: what ``training.train`` needs to know beyond model and examples.

    ``plain_attention_limit_bytes`` is what plain attention may keep for a backward pass in bfloat16 on a CPU, where it is faster than the fused one.
    """

    steps: int
    batch_size: int
    gradient_accumulation: int
    learning_rate: float
    warmup_share: float
    weight_decay: float
    seed: int
    save_every_steps: int
    lora: LoraParams | None = None
    freeze_embeddings: bool = False
    precision: Precision = "auto"
    plain_attention_limit_bytes: int = 1 << 30


class DistillTrainer(Trainer):
    """Trainer whose loss is a method's, over supervised positions only, normalised by the count of them in the whole step.

    The model's forward gives the loss when it is asked to (``distill=``), so that whatever wraps the model (autocast, data parallelism) sees one
    forward pass a micro-batch and synchronises its gradients.

    Source: transformers 5 ``Trainer.compute_loss`` and ``loss_is_scaled_for_ga``: a custom loss must be divided by
    ``num_items_in_batch`` and say so, or gradient accumulation multiplies the learning rate.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, method: Method, vocabulary: int, order: TrainingOrder | None = None, model: Any, **kwargs: Any) -> None:
        self._method, self._vocabulary, self._order = method, vocabulary, order
        self._tied: torch.nn.Embedding | None = None
        self._bare = model
        self._undo = _loss_in_forward(model, self._loss_of)
        super().__init__(*args, model=model, **kwargs)
        if self.args.use_cpu and self.accelerator.num_processes == 1:
            self._tied = _few_rows_of_tied_embeddings(model)
        # Our labels are shifted by the collator already; the Trainer would leave out each row's first when it counts.
        self._loss_shifts_labels = False
        self._sums = np.zeros(4)
        self._workspace = Workspace()
        head = self._head(model)
        # A frozen head is the same at every step: one copy in the training precision instead of a cast per step.
        self._frozen_head = None if head.requires_grad else head.detach().to(torch.bfloat16 if self.args.bf16 else head.dtype)

    def give_back(self) -> None:
        """Leave the model as it was: without the loss in its forward."""
        self._undo()
        if self._tied is not None:
            self._tied.sparse = False

    def _head(self, model: Any) -> torch.Tensor:
        """The head's weight, cut to the tokenizer's ids where it was padded beyond them, as the teacher's is (KD rule 7)."""
        weight: torch.Tensor = model.get_output_embeddings().weight
        return weight if weight.shape[0] <= self._vocabulary else weight[: self._vocabulary]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order if self._order is not None else super()._get_train_sampler(train_dataset)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The method may change a batch before its supervised tokens are counted, over micro-batches and processes (KD rule 2)."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        with self.accelerator.autocast():
            batches = [self._method.batch(self._bare, dict(batch), self.state.global_step) for batch in batches]
        return batches, self._get_num_items_in_batch(batches, device)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        count = (inputs["labels"] != IGNORE).sum() if num_items_in_batch is None else num_items_in_batch
        # The count is the whole step's, and processes average their gradients: their number makes up for it. No token is no loss, not 0 / 0.
        # Tokens are weighed by it beforehand: to scale a head's gradient afterwards is a pass over all of it.
        share = self.accelerator.num_processes / torch.as_tensor(count).clamp_min(1)
        return model(distill={**inputs, "kd": inputs["kd"] * share, "ce": inputs["ce"] * share})

    def _loss_of(self, inputs: Any) -> torch.Tensor:
        hidden = self._bare.get_decoder()(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        ).last_hidden_state
        hidden = hidden.to(torch.bfloat16 if self.args.bf16 else hidden.dtype)
        head = self._head(self._bare) if self._frozen_head is None else self._frozen_head
        # The losses choose their own precision; autocast would round what they keep in float32.
        with torch.autocast(hidden.device.type, enabled=False):
            sums = self._method.loss(hidden, head, inputs, self._workspace)
        weighted = [float((inputs["kd"] > 0).sum()), float((inputs["ce"] > 0).sum())]
        self._sums += np.array([float(sums.kl_sum), float(sums.ce_sum), *weighted])
        return sums.total

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            mine = torch.from_numpy(self._sums).to(self.args.device, torch.float32)[None]
            kl, ce, kl_tokens, ce_tokens = self.accelerator.gather(mine).sum(0).tolist()
            means = {"kl_nats_per_token": kl / max(1.0, kl_tokens), "cross_entropy_nats_per_token": ce / max(1.0, ce_tokens)}
            logs = {**logs, **means, "kd_tokens": kl_tokens, "text_tokens": ce_tokens}
            self._sums[:] = 0
        super().log(logs, *args, **kwargs)


def _loss_in_forward(model: Any, loss_of: Callable[[Any], torch.Tensor]) -> Callable[[], None]:
    """``model(distill=inputs)`` gives the loss; any other call is the model's own. Returns what undoes it."""
    plain = model.forward

    @functools.wraps(plain)
    def forward(*args: Any, distill: Any = None, **kwargs: Any) -> Any:
        return plain(*args, **kwargs) if distill is None else loss_of(distill)

    model.forward = forward
    return lambda: model.__dict__.pop("forward", None)


def _few_rows_of_tied_embeddings(model: Any) -> torch.nn.Embedding | None:
    """Where embeddings and head are one trained matrix, let the embeddings' gradient be the rows of the batch's tokens.

    They are added to the head's gradient, which is whole. A whole one of their own would be mostly zeros, as large as the head. With
    DistributedDataParallel it stays whole: the reducer would expect a sparse sum.
    """
    embeddings = model.get_input_embeddings()
    weight = embeddings.weight
    if not isinstance(embeddings, torch.nn.Embedding) or model.get_output_embeddings().weight is not weight or not weight.requires_grad:
        return None
    embeddings.sparse = True
    return embeddings


class MetricsFile(TrainerCallback):  # type: ignore[misc]
    """Appends every log to a JSONL file and reports progress; DVC stages do not talk to MLflow."""

    def __init__(self, path: Path, progress: Any = None) -> None:
        self._path = path
        self._progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A resumed run repeats the steps since its checkpoint; what the killed one logged of them goes."""
        if state.is_world_process_zero and self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= state.global_step]
            self._path.write_text("".join(kept), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if state.is_world_process_zero:
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._progress is not None and state.is_world_process_zero:
            self._progress(state.global_step, state.max_steps)


class Watched(TrainerCallback):  # type: ignore[misc]
    """Shows the model to somebody after every step; what they raise ends the training."""

    def __init__(self, watch: Watch, model: Any, tokenizer: Any) -> None:
        self._watch, self._model, self._tokenizer = watch, model, tokenizer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._watch(self._model, self._tokenizer, state.global_step, state.max_steps)


def lengths_of(examples: Sequence[Example]) -> np.ndarray:
    known: np.ndarray | None = getattr(examples, "lengths", None)
    return np.asarray([len(e.input_ids_L) for e in examples]) if known is None else known


def steps_for(tokens: int, examples: Sequence[Example], batch: int) -> int:
    """Optimiser steps that feed about ``tokens`` input tokens, so that arms with other rows see the same amount."""
    return max(1, round(tokens / (float(np.mean(lengths_of(examples))) * batch))) if len(examples) else 1


def train(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    recipe: Recipe,
    work: Path,
    progress: Any = None,
    method: Method | None = None,
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
        raise DataError("no rows to train on: every one was dropped; look at the report's governance table")
    refuse_odd_heads(model)
    method = method or Logit()
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    if recipe.freeze_embeddings:
        # Of a small student's parameters and optimiser work the embeddings are nearly half, and a cut leaves them intact.
        model.get_input_embeddings().weight.requires_grad_(False)
    if recipe.lora is not None:
        model = _with_lora(model, recipe.lora)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.batch_size % processes:
        raise ConfigError(f"finetune.common.batch_size={recipe.batch_size} cannot be shared by {processes} processes; give a multiple")
    bf16 = resolved(recipe.precision, training_device()) == "bf16"
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
        bf16=bf16,
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
            f"{arguments.n_gpu} GPUs in one process; set finetune.common.processes to their number, or show it one with CUDA_VISIBLE_DEVICES"
        )
    model.train()
    global_batch = recipe.batch_size * recipe.gradient_accumulation
    trainer = DistillTrainer(
        model=model,
        args=arguments,
        train_dataset=ExampleData(examples),
        data_collator=lambda rows: collate(rows, tokenizer.pad_token_id, method.temperature),
        callbacks=[MetricsFile(work / "metrics.jsonl", progress)],
        method=method,
        vocabulary=vocabulary_size(tokenizer),
        order=TrainingOrder(lengths_of(examples).tolist(), global_batch, recipe.steps, recipe.seed),
    )
    trainer.remove_callback(PrinterCallback)
    if watch is not None:
        trainer.add_callback(Watched(watch, model, tokenizer))
    attention = model.config._attn_implementation
    plain_bytes = plain_attention_bytes(model.config, examples, recipe.batch_size)
    if bf16 and arguments.use_cpu and plain_bytes <= recipe.plain_attention_limit_bytes:
        # In bf16 the fused attention's backward pass takes five times as long as plain matrix products on a CPU; in float32 it does not.
        model.set_attn_implementation("eager")
    checkpoint = newest_checkpoint(work)
    if checkpoint is not None:
        continues("training", f"from {Path(checkpoint).name} of an earlier run")
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except Exception as error:
        # Writing checkpoints and metrics is the loop's only disk access.
        if not is_disk_error(error):
            raise
        raise DataError(f"could not write a checkpoint to {work}: {error}; free some space or mend its rights, then run again") from error
    finally:
        model.set_attn_implementation(attention)
    model = trainer.accelerator.unwrap_model(trainer.model)
    trainer.give_back()
    return (model.merge_and_unload() if recipe.lora is not None else model).eval()


def plain_attention_bytes(config: Any, examples: Sequence[Example], batch: int) -> int:
    """What plain attention keeps for the backward pass of the longest batch: float32 scores and their bf16 copy, per layer."""
    longest = int(lengths_of(examples).max())
    return 6 * batch * int(config.num_attention_heads) * longest**2 * int(config.num_hidden_layers)


def newest_checkpoint(work: Path) -> str | None:
    """The last checkpoint that was written whole: the Trainer's state file is written last, and not at once."""

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
