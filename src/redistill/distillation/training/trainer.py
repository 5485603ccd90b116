"""transformers' Trainer with our loss, normalised once by the supervised tokens of a whole step, over micro-batches and processes (KD rule 2)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import Trainer

from redistill.distillation.losses.types import IGNORE
from redistill.distillation.losses.workspace import Workspace
from redistill.distillation.methods.base import Method
from redistill.distillation.training.batch import Batch
from redistill.distillation.training.sampler import TrainingOrder


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
            step = self.state.global_step
            batches = [self._method.batch(self._bare, Batch.of_mapping(batch), step).as_mapping() for batch in batches]
        return batches, self._get_num_items_in_batch(batches, device)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        count = (inputs["labels"] != IGNORE).sum() if num_items_in_batch is None else num_items_in_batch
        # The count is the whole step's, and processes average their gradients: their number makes up for it. No token is no loss, not 0 / 0.
        # Tokens are weighed by it beforehand: to scale a head's gradient afterwards is a pass over all of it.
        share = self.accelerator.num_processes / torch.as_tensor(count).clamp_min(1)
        return model(distill=Batch.of_mapping(inputs).scaled(share))

    def _loss_of(self, batch: Batch) -> torch.Tensor:
        hidden = self._bare.get_decoder()(
            input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL, use_cache=False
        ).last_hidden_state
        hidden = hidden.to(torch.bfloat16 if self.args.bf16 else hidden.dtype)
        head = self._head(self._bare) if self._frozen_head is None else self._frozen_head
        # The losses choose their own precision; autocast would round what they keep in float32.
        with torch.autocast(hidden.device.type, enabled=False):
            sums = self._method.loss(hidden, head, batch, self._workspace)
        weighted = [float((batch.kd_BL > 0).sum()), float((batch.ce_BL > 0).sum())]
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
