"""The interface through which the rules test an implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch


@dataclass(frozen=True)
class Problem:
    """A batch with given logits of both models, unshifted: row t of the logits predicts token t + 1.

    ``supervised_BL`` marks the tokens that are targets. The student's logits are a leaf with a gradient; the teacher's may be wider.
    """

    ids_BL: torch.Tensor
    supervised_BL: torch.Tensor
    student_BLV: torch.Tensor
    teacher_BLW: torch.Tensor

    @property
    def count(self) -> int:
        return int(self.supervised_BL[:, 1:].sum())

    def rows(self, part: slice | list[int]) -> Problem:
        student = self.student_BLV[part].detach().requires_grad_()
        return Problem(self.ids_BL[part], self.supervised_BL[part], student, self.teacher_BLW[part])


@dataclass(frozen=True, slots=True)
class Finding:
    """``error`` is the measured value, in the rule's own unit; None if nothing was measured."""

    outcome: Literal["pass", "fail", "not applicable"]
    error: float | None
    why: str


class NotApplicable(Exception):
    """The implementation has no feature that this rule could test."""


class Implementation(ABC):
    """An implementation to test. Only ``loss`` is required; other methods raise ``NotApplicable`` if the implementation has no such feature."""

    name: str
    version: str
    takes_count = True
    """Whether its loss is divided by a global count that it receives. If not, a trainer averages the means of micro-batches."""

    text_loss = True
    """Whether it adds a text loss to its divergence. Without one, T² only rescales the whole loss."""

    def divergence(self, teacher_NV: torch.Tensor, student_NV: torch.Tensor) -> torch.Tensor:
        """The definition of the divergence that it minimises, per token, in float64, from logits divided by the temperature: forward KL."""
        log_p, log_q = teacher_NV.log_softmax(-1), student_NV.log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    @abstractmethod
    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        """The loss of one micro-batch as its trainer would back-propagate it; ``count`` is the number of targets in the whole step.

        Raises:
            NotApplicable: it has no temperature.
            ValueError: it refuses this batch.
        """

    def chunked(self, hidden_ND: torch.Tensor, head_VD: torch.Tensor, teacher_NV: torch.Tensor, chunk: int) -> torch.Tensor:
        """The loss from hidden states and a head, ``chunk`` tokens at a time, with given teacher logits."""
        raise NotApplicable("it does not work in chunks")

    def tokenizers(self, student: dict[str, int], teacher: dict[str, int]) -> None:
        """Refuse, by any error, a pair of token → id maps that differ."""
        raise NotApplicable("it does not receive tokenizers")

    def by_key(self, problem: Problem, order: list[int]) -> list[float]:
        """The loss of every row, after its cached teacher rows were written in ``order``."""
        raise NotApplicable("it keeps no cache of the teacher's probabilities")

    def cached_at(self, teacher_NV: torch.Tensor, temperature: float, log_z: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and probabilities at a temperature from a top-k cache, written with or without its normaliser."""
        raise NotApplicable("it keeps no cache of the teacher's probabilities")

    def listed(self, ids: list[int], logprobs: list[float]) -> tuple[list[int], list[float]]:
        """What it reads from a teacher's list for one token. The list may repeat an id or contain −inf."""
        raise NotApplicable("its teacher is dense, so no list can repeat an id")

    def ask_teacher(self, model: Any, ids_BL: torch.Tensor) -> None:
        """Its own way to get a teacher's logits for these tokens; ``model`` records how it was called."""
        raise NotApplicable("it receives logits, and never runs a teacher")

    def longer_prompt(self, prompt: list[int], longer: list[int], completion: list[int], scored: list[int]) -> None:
        """Use probabilities that a teacher gave for ``scored`` behind its own ``longer`` prompt in a row of ``prompt`` and ``completion``; refuse, by any
        error, a completion of other ids."""
        raise NotApplicable("its teacher reads the student's prompt")

    def other_ids(self, ids_L: torch.Tensor, others_L: torch.Tensor) -> None:
        """Refuse, by any error, probabilities that were made for ``others_L`` when the text is ``ids_L``."""
        raise NotApplicable("it does not store text and probabilities separately")
