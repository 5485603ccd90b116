"""Rows of token ids of different lengths as one rectangle, and a mask of what is real."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def left_padded(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``attention_mask`` (N × longest) of prompts that end together, as ``model.generate`` needs them: a decoder continues at the right end."""
    import torch

    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[pad_id] * (width - len(r)) + list(r) for r in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows]),
    }


def right_padded(rows: Sequence[Sequence[int]], pad_id: int = 0) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``attention_mask`` (N × longest) of whole sequences for one forward pass. A decoder never looks at what is to the right."""
    import torch

    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[*r, *[pad_id] * (width - len(r))] for r in rows]),
        "attention_mask": torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows]),
    }
