"""A batch: rows as padded tensors, and which tokens are supervised with what weight. All that a method's loss sees of the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from redistill.distillation.losses.tail_bucket import temper
from redistill.distillation.losses.types import IGNORE, TokenTargets

if TYPE_CHECKING:
    from redistill.distillation.training.examples import Example


_TRAINER_NAMES = {"input_ids_BL": "input_ids", "labels_BL": "labels"}
_FIELD_NAMES = {name: field for field, name in _TRAINER_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Batch:
    """B rows, padded on the right to L tokens.

    Position t of ``labels_BL``, of the weights and of the teacher's probabilities belongs to the logits that predict token t + 1 (KD rule 1); a token that
    is not supervised has the label IGNORE. ``kd_BL`` and ``ce_BL`` are the weights of the two losses. ``top_p_BLK`` are the teacher's stored
    probabilities of the tokens ``top_ids_BLK`` at ``temperature``; K is 0 without stored ones. ``completion_begins_B`` is where each completion starts.
    ``states_ND`` are the teacher's last hidden states of the tokens with a KD weight, row by row, where they were computed before training.
    """

    input_ids_BL: torch.Tensor
    attention_mask_BL: torch.Tensor
    labels_BL: torch.Tensor
    kd_BL: torch.Tensor
    ce_BL: torch.Tensor
    top_ids_BLK: torch.Tensor
    top_p_BLK: torch.Tensor
    completion_begins_B: torch.Tensor
    temperature: float
    states_ND: torch.Tensor | None = None

    @property
    def supervised_BL(self) -> torch.Tensor:
        return self.labels_BL != IGNORE

    def targets(self, chosen_BL: torch.Tensor | None = None) -> TokenTargets:
        """The targets of the chosen tokens, by default of the supervised ones."""
        chosen = self.supervised_BL if chosen_BL is None else chosen_BL
        return TokenTargets(*(t[chosen] for t in (self.labels_BL, self.top_ids_BLK, self.top_p_BLK, self.kd_BL, self.ce_BL)))

    def scaled(self, share: torch.Tensor | float) -> Batch:
        """The same batch with both weights multiplied."""
        return dataclasses.replace(self, kd_BL=self.kd_BL * share, ce_BL=self.ce_BL * share)

    def as_mapping(self) -> dict[str, object]:
        """The fields by name, for the Trainer. It moves tensors between devices, counts ``input_ids`` and ``labels``, and knows mappings only."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {_TRAINER_NAMES.get(name, name): value for name, value in fields.items() if value is not None}

    @classmethod
    def of_mapping(cls, fields: Mapping[str, object]) -> Batch:
        """What ``as_mapping`` made, back as a batch."""
        return cls(**{_FIELD_NAMES.get(name, name): value for name, value in fields.items()})  # type: ignore[arg-type]


def collate(examples: Sequence[Example], pad_id: int, temperature: float) -> Batch:
    """Examples as one batch. Weights and soft targets are shifted together with the labels."""
    length = max(len(e.input_ids_L) for e in examples)
    width = max((e.soft.top_ids_TK.shape[1] for e in examples if e.soft is not None), default=0)
    n = len(examples)
    ids = torch.full((n, length), pad_id, dtype=torch.long)
    mask = torch.zeros((n, length), dtype=torch.long)
    labels = torch.full((n, length), IGNORE, dtype=torch.long)
    ce, kd = torch.zeros((n, length)), torch.zeros((n, length))
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
    begins = torch.tensor([e.completion_begin for e in examples])
    states = [e.states_ND for e in examples if e.states_ND is not None]
    return Batch(ids, mask, labels, kd, ce, top_ids, top_p, begins, temperature, torch.cat(states) if states else None)
