"""redistill under its own rules: the sparse loss through the collator and the batch loss that training runs, and the dense ones."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import redistill
from redistill.conformance.protocol import Implementation, Problem
from redistill.dense_losses import Divergence, TeacherStates, dense_loss
from redistill.examples import Example, collate
from redistill.losses import TokenTargets, distill_loss, temper
from redistill.methods.logit import Logit
from redistill.prompting import vocabulary_digest
from redistill.records import SoftTargets
from redistill.scoring import score_sequences
from redistill.soft_target_files import SoftTargetFiles, write_soft_targets
from redistill.soft_targets import bind, from_listed, from_logits

_K = 4
_TEMPERATURES = (1.0, 2.0, 4.0)


class Sparse(Implementation):
    """``finetune.method: logit``: top-K soft targets from a file, one bucket for the rest."""

    name = "redistill"
    version = redistill.__version__

    def divergence(self, teacher_NV: torch.Tensor, student_NV: torch.Tensor) -> torch.Tensor:
        p, log_q = teacher_NV.softmax(-1), student_NV.log_softmax(-1)
        top, ids = p.topk(min(_K, p.shape[-1]), -1)
        inside = (top * (top.log() - log_q.gather(-1, ids))).sum(-1)
        rest, q_rest = 1.0 - top.sum(-1), log_q.exp().scatter(-1, ids, 0.0).sum(-1)
        return inside + rest * (rest / q_rest).log()

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        return self._loss(problem, [self._soft(problem, row) for row in range(len(problem.ids_BL))], temperature, count or 1)

    def _soft(self, problem: Problem, row: int) -> SoftTargets:
        ids, width = problem.ids_BL[row].numpy(), problem.student_BLV.shape[-1]
        return from_logits(problem.teacher_BLW[row, :-1], ids, 1, _K, _TEMPERATURES, (f"row-{row}", 0), width)

    def _loss(self, problem: Problem, soft: list[SoftTargets], temperature: float, count: int) -> torch.Tensor:
        examples = [
            {"example": Example(ids.numpy(), np.zeros(len(ids), np.float32), on.numpy().astype(np.float32), targets)}
            for ids, on, targets in zip(problem.ids_BL, problem.supervised_BL, soft, strict=True)
        ]
        inputs = collate(examples, 0, temperature)
        # Given logits are hidden states in front of a head that changes nothing.
        head = torch.eye(problem.student_BLV.shape[-1])
        return Logit(temperature).loss(problem.student_BLV, head, inputs).total / count

    def chunked(self, hidden_ND: torch.Tensor, head_VD: torch.Tensor, teacher_NV: torch.Tensor, chunk: int) -> torch.Tensor:
        top, ids = teacher_NV.softmax(-1).topk(_K, -1)
        ones = torch.ones(len(hidden_ND))
        targets = TokenTargets(torch.zeros(len(hidden_ND), dtype=torch.long), ids, top, ones, 0 * ones)
        return distill_loss(hidden_ND, head_VD, targets, chunk=chunk).total

    def tokenizers(self, student: dict[str, int], teacher: dict[str, int]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            given = [from_logits(torch.zeros(1, 4), np.array([0, 1]), 1, 2, (), ("row", 0))]
            write_soft_targets(Path(folder) / "soft", given, vocabulary_digest(teacher), 4)
            SoftTargetFiles(Path(folder) / "soft", vocabulary_digest(student))

    def by_key(self, problem: Problem, order: list[int]) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            write_soft_targets(
                Path(folder) / "soft", [self._soft(problem, row) for row in order], "tokenizer", problem.student_BLV.shape[-1], bits=16
            )
            files = SoftTargetFiles(Path(folder) / "soft", "tokenizer")
            cached = {key: files[key] for key in files}
        parts = [problem.rows(slice(row, row + 1)) for row in range(len(order))]
        return [self._loss(part, [cached[f"row-{row}", 0]], 1.0, 1).item() for row, part in enumerate(parts)]

    def cached_at(self, teacher_NV: torch.Tensor, temperature: float, log_z: bool) -> tuple[torch.Tensor, torch.Tensor]:
        ids = np.zeros(len(teacher_NV) + 1, np.int64)
        soft = from_logits(teacher_NV, ids, 1, _K, (temperature,) if log_z else (), ("row", 0))
        stored = torch.from_numpy(soft.log_z[temperature]) if log_z else None
        return torch.from_numpy(soft.top_ids_TK).long(), temper(torch.from_numpy(soft.top_logprobs_TK), stored, temperature)

    def listed(self, ids: list[int], logprobs: list[float]) -> tuple[list[int], list[float]]:
        found = from_listed([ids], [logprobs], [0, ids[0]], 1, len(ids), ("row", 0))
        return found.top_ids_TK[0].tolist(), found.top_logprobs_TK[0].tolist()

    def ask_teacher(self, model: Any, ids_BL: torch.Tensor) -> None:
        list(score_sequences(model, [((f"row-{i}", 0), row.numpy()) for i, row in enumerate(ids_BL)], _K, (1.0,), 4096))

    def other_ids(self, ids_L: torch.Tensor, others_L: torch.Tensor) -> None:
        bind(from_logits(torch.zeros(len(others_L) - 1, 4), others_L.numpy(), 1, 2, (), ("row", 0)), ids_L.tolist())


class Dense(Implementation):
    """A divergence over the whole vocabulary, for a teacher in memory."""

    version = redistill.__version__
    _beta = 0.3

    def __init__(self, divergence: Divergence) -> None:
        self.name, self._divergence = f"redistill-{divergence}", divergence

    def divergence(self, teacher_NV: torch.Tensor, student_NV: torch.Tensor) -> torch.Tensor:
        log_p, log_q = teacher_NV.log_softmax(-1), student_NV.log_softmax(-1)
        p, q, beta = log_p.exp(), log_q.exp(), self._beta
        log_m = (beta * p + (1.0 - beta) * q).log()
        from_p, from_q = (p * (log_p - log_m)).sum(-1), (q * (log_q - log_m)).sum(-1)
        return {
            "forward_kl": (p * (log_p - log_q)).sum(-1),
            "reverse_kl": (q * (log_q - log_p)).sum(-1),
            "jsd": beta * from_p + (1.0 - beta) * from_q,
            "skew_kl": from_p,
        }[self._divergence]

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        # The logits of position t learn token t + 1; what is masked there never meets the loss.
        chosen = problem.supervised_BL[:, 1:]
        hidden, theirs = problem.student_BLV[:, :-1][chosen], problem.teacher_BLW[:, :-1][chosen]
        return self._of_tokens(hidden, torch.eye(hidden.shape[-1]), theirs, problem.ids_BL[:, 1:][chosen], temperature, 64) / (count or 1)

    def _of_tokens(
        self, hidden: torch.Tensor, head: torch.Tensor, theirs: torch.Tensor, labels: torch.Tensor, temperature: float, chunk: int
    ) -> torch.Tensor:
        ones, teacher = torch.ones(len(hidden)), TeacherStates(theirs, torch.eye(theirs.shape[-1]))
        return dense_loss(hidden, head, teacher, labels, ones, 0 * ones, self._divergence, self._beta, temperature, chunk).total

    def chunked(self, hidden_ND: torch.Tensor, head_VD: torch.Tensor, teacher_NV: torch.Tensor, chunk: int) -> torch.Tensor:
        return self._of_tokens(hidden_ND, head_VD, teacher_NV, torch.zeros(len(hidden_ND), dtype=torch.long), 1.0, chunk)
