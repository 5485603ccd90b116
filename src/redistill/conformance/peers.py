"""Adapters for the losses of other libraries: TRL (two), Liger and ``torch.nn.functional.kl_div``.

Each loss is called as the library's own trainer calls it. This uses internals of TRL, so its version is pinned in pyproject.toml.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional

from redistill.conformance.protocol import Implementation, NotApplicable, Problem

_IGNORE = -100


def _labels(problem: Problem) -> torch.Tensor:
    return problem.ids_BL.masked_fill(~problem.supervised_BL, _IGNORE)


class Given(torch.nn.Module):
    """A model that returns the given logits."""

    def __init__(self, logits_BLV: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits_BLV

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> Any:
        return SimpleNamespace(logits=self.logits)


class TrlGkd(Implementation):
    """``trl.experimental.gkd.GKDTrainer.compute_loss`` with ``beta=0``. It has no text loss, and never passes a temperature to its loss."""

    name = "trl-gkd"
    text_loss = False

    def __init__(self) -> None:
        # TRL would print a warning that this class is experimental above the table.
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        from trl.experimental.gkd import GKDTrainer

        self._trainer: Any = GKDTrainer
        self.version = f"trl {version('trl')}"

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        if temperature != 1.0:
            raise NotApplicable("its trainer does not pass a temperature to the loss")
        return self._step(Given(problem.student_BLV), Given(problem.teacher_BLW), problem.ids_BL, _labels(problem), count)

    def _step(self, student: Any, teacher: Any, ids: torch.Tensor, labels: torch.Tensor, count: int | None) -> torch.Tensor:
        own = SimpleNamespace(teacher_model=teacher, beta=0.0, generalized_jsd_loss=self._trainer.generalized_jsd_loss)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        found: torch.Tensor = self._trainer.compute_loss(own, student, inputs, num_items_in_batch=count)
        return found

    def ask_teacher(self, model: Any, ids_BL: torch.Tensor) -> None:
        given = Given(torch.zeros(*ids_BL.shape, model.config.vocab_size, requires_grad=True))
        self._step(given, model, ids_BL, ids_BL, None)


class TrlDistillation(Implementation):
    """The chunked loss of ``trl.DistillationTrainer`` with ``beta=0``, on hidden states as its trainer hands them over. It has no text loss."""

    name = "trl-distillation"
    text_loss = False

    def __init__(self) -> None:
        from trl.trainer import distillation_trainer

        self._trainer: Any = distillation_trainer
        self.version = f"trl {version('trl')}"

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        width, wide = problem.student_BLV.shape[-1], problem.teacher_BLW.shape[-1]
        return self._of_tokens(
            problem.student_BLV[:, :-1],
            torch.eye(width),
            problem.teacher_BLW[:, :-1],
            torch.eye(wide),
            problem.supervised_BL[:, 1:],
            temperature,
            count,
        )

    def _of_tokens(
        self,
        hidden: torch.Tensor,
        head: torch.Tensor,
        theirs: torch.Tensor,
        their_head: torch.Tensor,
        mask: torch.Tensor,
        temperature: float,
        count: int | None,
    ) -> torch.Tensor:
        found: torch.Tensor = self._trainer._chunked_divergence_loss(
            hidden, theirs, head, their_head, mask.long(), 0.0, num_items_in_batch=count, temperature=temperature
        )[0]
        return found

    def chunked(self, hidden_ND: torch.Tensor, head_VD: torch.Tensor, teacher_NV: torch.Tensor, chunk: int) -> torch.Tensor:
        from trl.kernels import chunked_divergence as kernel

        before = kernel.TOKEN_CHUNK_SIZE
        kernel.TOKEN_CHUNK_SIZE = chunk
        try:
            mask = torch.ones(1, len(hidden_ND))
            return self._of_tokens(hidden_ND[None], head_VD, teacher_NV[None], torch.eye(teacher_NV.shape[-1]), mask, 1.0, 1)
        finally:
            kernel.TOKEN_CHUNK_SIZE = before


class Liger(Implementation):
    """``LigerFusedLinearJSDLoss`` with ``beta=0``, uncompiled so that it runs on a CPU; the caller shifts. It takes no count.

    It adds a hard loss to its divergence. The rules are about the divergence only, so the weight of the hard loss is 0 here.
    """

    name = "liger-jsd"
    takes_count = False

    def __init__(self) -> None:
        self.version = f"liger-kernel {version('liger-kernel')}"

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        width, wide = problem.student_BLV.shape[-1], problem.teacher_BLW.shape[-1]
        student, teacher = problem.student_BLV[:, :-1].flatten(0, 1), problem.teacher_BLW[:, :-1].flatten(0, 1)
        return self._of_tokens(student, torch.eye(width), teacher, torch.eye(wide), _labels(problem)[:, 1:].flatten(), temperature, 1024)

    def _of_tokens(
        self,
        hidden: torch.Tensor,
        head: torch.Tensor,
        theirs: torch.Tensor,
        their_head: torch.Tensor,
        labels: torch.Tensor,
        temperature: float,
        chunk: int,
    ) -> torch.Tensor:
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        settings = {"weight_hard_loss": 0.0, "weight_soft_loss": 1.0, "beta": 0.0, "compiled": False}
        fused = LigerFusedLinearJSDLoss(**settings, temperature=temperature, chunk_size=chunk)
        found: torch.Tensor = fused(hidden, head.requires_grad_(), theirs, their_head, labels)
        return found

    def chunked(self, hidden_ND: torch.Tensor, head_VD: torch.Tensor, teacher_NV: torch.Tensor, chunk: int) -> torch.Tensor:
        labels = torch.zeros(len(hidden_ND), dtype=torch.long)
        # It returns the mean over tokens, but the reference is the sum.
        return len(hidden_ND) * self._of_tokens(hidden_ND, head_VD, teacher_NV, torch.eye(teacher_NV.shape[-1]), labels, 1.0, chunk)


class KlDiv(Implementation):
    """``kl_div(log_softmax(s / T), softmax(t / T), reduction="batchmean") * T**2`` over the unmasked rows, shifted by the caller."""

    name = "torch-kl_div"
    version = f"torch {torch.__version__}"
    takes_count = False

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        chosen = problem.supervised_BL[:, 1:]
        student, teacher = problem.student_BLV[:, :-1][chosen], problem.teacher_BLW[:, :-1][chosen]
        log_q, p = functional.log_softmax(student / temperature, -1), functional.softmax(teacher / temperature, -1)
        return functional.kl_div(log_q, p, reduction="batchmean") * temperature**2
