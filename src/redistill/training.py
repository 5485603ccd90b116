"""One training loop for teacher tuning and every arm: transformers' Trainer with our loss.

Every sequence is ``prompt ids + completion ids``. Which tokens are supervised, and with what weight, is decided when
rows become examples; the Trainer only adds up. The loss is normalised once, by the global count of supervised tokens
over micro-batches and ranks (KD rule 2).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from redistill.artifacts import is_disk_error
from redistill.config import LoraParams
from redistill.errors import ConfigError, DataError
from redistill.losses import IGNORE, LossSums, TokenTargets, Workspace, distill_loss, temper
from redistill.prompting import encode, vocabulary_size
from redistill.records import SoftTargets, TrainingRow
from redistill.soft_targets import bind

_PLAIN_ATTENTION_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence with per-token weights. Entry t of the weights belongs to token t as a *target*."""

    input_ids_L: np.ndarray
    ce_weight_L: np.ndarray
    kd_weight_L: np.ndarray
    soft: SoftTargets | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: what ``training.train`` needs to know beyond model and examples."""

    steps: int
    batch_size: int
    gradient_accumulation: int
    learning_rate: float
    warmup_share: float
    weight_decay: float
    seed: int
    temperature: float
    save_every_steps: int
    lora: LoraParams | None = None
    freeze_embeddings: bool = False


def to_example(row: TrainingRow, tokenizer: Any, soft: SoftTargets | None, alpha: float, supervise: str, max_tokens: int = 4096) -> Example:
    """Token ids and weights of one row.

    On completion tokens: with soft targets α is the KD term's weight and 1 − α the text's; gold rows, and teacher rows
    without soft targets, have the hard loss alone. On prompt tokens (``supervise: all``) only KD applies: the teacher's
    probabilities there come from the same forward pass and heal a cut, while the prompt's own text is not a lesson.

    Raises:
        DataError: soft targets for other tokens than the row has, or a row that is too long.
    """
    prompt_ids = encode(row.prompt, tokenizer)
    ids = np.asarray([*prompt_ids, *row.completion_ids], dtype=np.int64)
    if len(ids) > max_tokens:
        raise DataError(f"row {row.prompt_id[:12]} has {len(ids)} tokens, more than {max_tokens}; lower intake.max_chars")
    ce = np.zeros(len(ids), dtype=np.float32)
    kd = np.zeros(len(ids), dtype=np.float32)
    start = max(1, len(prompt_ids))
    if soft is None or alpha == 0.0:
        ce[start:] = 1.0
        return Example(ids, ce, kd, None)
    bind(soft, ids.tolist())
    ce[start:] = 1.0 - alpha
    begin = soft.first if supervise == "all" else max(soft.first, start)
    kd[begin:] = alpha
    return Example(ids, ce, kd, soft)


class ExampleData(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples as the Trainer's collator wants them; ``input_ids`` also feeds length grouping."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._examples[index]
        return {"input_ids": example.input_ids_L.tolist(), "example": example}


def collate(rows: Sequence[Mapping[str, Any]], pad_id: int, temperature: float) -> dict[str, torch.Tensor]:
    """Right-padded batch. ``labels`` is what the Trainer counts: every supervised token once, shifted by us, not by it.

    Position t of ``labels`` and the target tensors belongs to the logits that predict token t + 1 (KD rule 1); weights
    and soft targets are shifted together with it.
    """
    examples = [row["example"] for row in rows]
    length = max(len(e.input_ids_L) for e in examples)
    width = max((e.soft.top_ids_TK.shape[1] for e in examples if e.soft is not None), default=0)
    n = len(examples)
    ids = torch.full((n, length), pad_id, dtype=torch.long)
    mask = torch.zeros((n, length), dtype=torch.long)
    labels = torch.full((n, length), IGNORE, dtype=torch.long)
    ce = torch.zeros((n, length))
    kd = torch.zeros((n, length))
    top_ids = torch.zeros((n, length, width), dtype=torch.long)
    top_p = torch.zeros((n, length, width))
    for i, e in enumerate(examples):
        size = len(e.input_ids_L)
        ids[i, :size] = torch.from_numpy(e.input_ids_L)
        mask[i, :size] = 1
        ce[i, : size - 1] = torch.from_numpy(e.ce_weight_L[1:])
        kd[i, : size - 1] = torch.from_numpy(e.kd_weight_L[1:])
        supervised = (ce[i, : size - 1] > 0) | (kd[i, : size - 1] > 0)
        labels[i, : size - 1] = torch.where(supervised, torch.from_numpy(e.input_ids_L[1:]), IGNORE)
        if e.soft is not None and width:
            place = slice(e.soft.first - 1, size - 1)
            k = e.soft.top_ids_TK.shape[1]
            log_z = torch.from_numpy(np.array(e.soft.log_z[temperature])) if temperature in e.soft.log_z else None
            top_ids[i, place, :k] = torch.from_numpy(np.array(e.soft.top_ids_TK)).long()
            top_p[i, place, :k] = temper(torch.from_numpy(np.array(e.soft.top_logprobs_TK)), log_z, temperature)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "ce": ce, "kd": kd, "top_ids": top_ids, "top_p": top_p}


def batch_loss(
    hidden_BLD: torch.Tensor,
    head_VD: torch.Tensor,
    inputs: Mapping[str, torch.Tensor],
    temperature: float,
    workspace: Workspace | None = None,
) -> tuple[LossSums, TokenTargets]:
    """Weighted sums over the supervised tokens of a collated batch, not yet divided by anything, and what they were made of.

    The hidden states of other tokens never meet the head.
    """
    chosen = inputs["labels"] != IGNORE
    targets = TokenTargets(
        inputs["labels"][chosen], inputs["top_ids"][chosen], inputs["top_p"][chosen], inputs["kd"][chosen], inputs["ce"][chosen]
    )
    return distill_loss(hidden_BLD[chosen], head_VD, targets, temperature, workspace=workspace), targets


class DistillTrainer(Trainer):
    """Trainer whose loss is ``distill_loss`` over supervised positions only, normalised by the global token count.

    Source: transformers 5 ``Trainer.compute_loss`` and ``loss_is_scaled_for_ga``: a custom loss must be divided by
    ``num_items_in_batch`` and say so, or gradient accumulation multiplies the learning rate.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, temperature: float, vocabulary: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Our labels are shifted by the collator already; the Trainer would leave out each row's first when it counts.
        self._loss_shifts_labels = False
        self._temperature = temperature
        self._sums = np.zeros(4)
        self._workspace = Workspace()
        self._vocabulary = vocabulary
        head = self._head(self.model)
        # A frozen head is the same at every step: one copy in the training precision instead of a cast per step.
        self._frozen_head = None if head.requires_grad else head.detach().to(torch.bfloat16 if self.args.bf16 else head.dtype)

    def _head(self, model: Any) -> torch.Tensor:
        """The head's weight, cut to the tokenizer's ids where it was padded beyond them, as the teacher's is (KD rule 7)."""
        weight: torch.Tensor = model.get_output_embeddings().weight
        return weight if weight.shape[0] <= self._vocabulary else weight[: self._vocabulary]

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        bare = self.accelerator.unwrap_model(model)
        # accelerate wraps only model.forward in autocast; the decoder is called without it, so the context is ours to open.
        with self.accelerator.autocast():
            hidden = bare.get_decoder()(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        hidden = hidden.to(torch.bfloat16 if self.args.bf16 else hidden.dtype)
        head = self._head(bare) if self._frozen_head is None else self._frozen_head
        sums, targets = batch_loss(hidden, head, inputs, self._temperature, self._workspace)
        count = len(targets.labels_N) if num_items_in_batch is None else num_items_in_batch
        weighted = [float((targets.kd_weight_N > 0).sum()), float((targets.ce_weight_N > 0).sum())]
        self._sums += np.array([float(sums.kl_sum), float(sums.ce_sum), *weighted])
        return sums.total / count

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        kl, ce, kl_tokens, ce_tokens = self._sums
        if "loss" in logs:
            means = {"kl_nats_per_token": kl / max(1.0, kl_tokens), "cross_entropy_nats_per_token": ce / max(1.0, ce_tokens)}
            logs = {**logs, **means, "kd_tokens": kl_tokens, "text_tokens": ce_tokens}
            self._sums[:] = 0
        super().log(logs, *args, **kwargs)


class MetricsFile(TrainerCallback):  # type: ignore[misc]
    """Appends every log to a JSONL file and reports progress; DVC stages do not talk to MLflow."""

    def __init__(self, path: Path, progress: Any = None) -> None:
        self._path = path
        self._progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A resumed run repeats the steps since its checkpoint; what the killed one logged of them goes."""
        if self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= state.global_step]
            self._path.write_text("".join(kept), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        with open(self._path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._progress is not None:
            self._progress(state.global_step, state.max_steps)


def steps_for(tokens: int, examples: Sequence[Example], batch: int) -> int:
    """Optimiser steps that feed about ``tokens`` input tokens, so that arms with other rows see the same amount."""
    mean = float(np.mean([len(e.input_ids_L) for e in examples]))
    return max(1, round(tokens / (mean * batch)))


def train(model: Any, tokenizer: Any, examples: Sequence[Example], recipe: Recipe, work: Path, progress: Any = None) -> Any:
    """Train and return the model (LoRA merged). Resumes from the newest whole checkpoint in ``work``.

    Raises:
        DataError: nothing to train on.
    """
    if not examples:
        raise DataError("no rows to train on: every one was dropped; look at the report's governance table")
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise DataError(f"{type(model).__name__} has a bias on its output head, which the sparse loss does not support")
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    if recipe.freeze_embeddings:
        # Of a small student's parameters and optimiser work the embeddings are nearly half, and a cut leaves them intact.
        model.get_input_embeddings().weight.requires_grad_(False)
    if recipe.lora is not None:
        model = _with_lora(model, recipe.lora)
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(recipe.warmup_share * recipe.steps),
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        label_names=["labels"],
        logging_steps=10,
        save_steps=recipe.save_every_steps,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    model.train()
    trainer = DistillTrainer(
        model=model,
        args=arguments,
        train_dataset=ExampleData(examples),
        data_collator=lambda rows: collate(rows, tokenizer.pad_token_id, recipe.temperature),
        callbacks=[MetricsFile(work / "metrics.jsonl", progress)],
        temperature=recipe.temperature,
        vocabulary=vocabulary_size(tokenizer),
    )
    trainer.remove_callback(PrinterCallback)
    devices = max(trainer.accelerator.num_processes, arguments.n_gpu)
    if devices > 1:
        raise ConfigError(
            f"{devices} training processes or GPUs, but gradients are not yet synchronised between them; start one process, and "
            "show it one GPU with CUDA_VISIBLE_DEVICES"
        )
    attention = model.config._attn_implementation
    if arguments.use_cpu and plain_attention_bytes(model.config, examples, recipe.batch_size) <= _PLAIN_ATTENTION_BYTES:
        # In bf16 the fused attention's backward pass takes five times as long as plain matrix products on a CPU.
        model.set_attn_implementation("eager")
    try:
        trainer.train(resume_from_checkpoint=newest_checkpoint(work))
    except Exception as error:
        # Writing checkpoints and metrics is the loop's only disk access.
        if not is_disk_error(error):
            raise
        raise DataError(f"could not write a checkpoint to {work}: {error}; free some space or mend its rights, then run again") from error
    finally:
        model.set_attn_implementation(attention)
    model = trainer.accelerator.unwrap_model(trainer.model)
    return (model.merge_and_unload() if recipe.lora is not None else model).eval()


def plain_attention_bytes(config: Any, examples: Sequence[Example], batch: int) -> int:
    """What plain attention keeps for the backward pass of the longest batch: float32 scores and their bf16 copy, per layer."""
    longest = max(len(e.input_ids_L) for e in examples)
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
