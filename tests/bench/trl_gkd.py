"""TRL's GKDTrainer as a user would start it for off-policy forward KL: its defaults, but no gradient checkpointing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from redistill.distillation.training.examples import Example
from redistill.runtime.precision import resolved


def train_trl(
    model: Any,
    teacher: Any,
    tokenizer: Any,
    rows: Sequence[Example],
    batch: int,
    steps: int,
    work: Path,
    learning_rate: float,
    warmup_steps: int = 0,
    freeze_embeddings: bool = False,
    callbacks: Sequence[Any] = (),
    checkpointing: bool = False,
    sampling: str = "random",
) -> None:
    """Train ``model`` on the tokens that carry a weight, all with the teacher's distribution (``beta=0``, ``lmbda=0``), in this machine's precision.

    ``sampling`` is transformers' ``train_sampling_strategy``: ``group_by_length`` puts rows of like length together, as our own batches are.
    """
    import datasets
    import torch
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    def collated(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(i["input_ids"]) for i in items)
        padded = {
            name: torch.tensor([i[name] + [fill] * (width - len(i[name])) for i in items])
            for name, fill in (("input_ids", tokenizer.pad_token_id), ("labels", -100))
        }
        mask = torch.tensor([[1] * len(i["input_ids"]) + [0] * (width - len(i["input_ids"])) for i in items])
        return {**padded, "attention_mask": mask}

    if freeze_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    data = [
        {"input_ids": r.input_ids_L.tolist(), "labels": np.where(r.kd_weight_L + r.ce_weight_L > 0, r.input_ids_L, -100).tolist()}
        for r in rows
    ]
    arguments = GKDConfig(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=warmup_steps,
        train_sampling_strategy=sampling,
        bf16=resolved() == "bf16",
        use_cpu=True,
        lmbda=0.0,
        beta=0.0,
        temperature=1.0,
        gradient_checkpointing=checkpointing,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        dataloader_pin_memory=False,
    )
    trainer = GKDTrainer(
        model=model,
        teacher_model=teacher,
        args=arguments,
        data_collator=collated,
        train_dataset=datasets.Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    trainer.train()
