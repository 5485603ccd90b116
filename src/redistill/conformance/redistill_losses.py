"""The losses of redistill for the rules, with the collator and batch losses of training: ``logit`` from soft targets, ``online`` with a teacher."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from redistill.conformance.protocol import Implementation, Problem
from redistill.distillation.losses.divergences import DenseTargets, TeacherStates, dense_loss
from redistill.distillation.losses.fused_head import distill_loss
from redistill.distillation.losses.tail_bucket import temper
from redistill.distillation.losses.types import TokenTargets
from redistill.distillation.methods.logit import Logit
from redistill.distillation.methods.online import Online
from redistill.distillation.soft_targets.for_student import for_student
from redistill.distillation.soft_targets.from_teacher import from_listed, from_logits
from redistill.distillation.soft_targets.scoring import Sequenced, score_sequences
from redistill.distillation.soft_targets.shards import SoftTargetFiles, write_soft_targets
from redistill.distillation.training.batch import collate
from redistill.distillation.training.examples import Example, Supervision, to_example
from redistill.distillation.types import Divergence, SignalKey, SoftTargets, Span, TrainingRow
from redistill.models.tokenizers import vocabulary_digest
from redistill.version import __version__

_K = 4
_TEMPERATURES = (1.0, 2.0, 4.0)


class Sparse(Implementation):
    """``finetune.method: logit``: top-K soft targets from a file, one bucket for the rest."""

    name = "redistill"
    version = __version__

    def divergence(self, teacher_NV: torch.Tensor, student_NV: torch.Tensor) -> torch.Tensor:
        log_p, log_q = teacher_NV.log_softmax(-1), student_NV.log_softmax(-1)
        top, ids = log_p.topk(min(_K, log_p.shape[-1]), -1)
        inside = (top.exp() * (top - log_q.gather(-1, ids))).sum(-1)
        rest, q_rest = (x.scatter(-1, ids, -torch.inf).logsumexp(-1) for x in (log_p, log_q))
        return inside + rest.exp() * (rest - q_rest)

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        return self._loss(problem, [self._soft(problem, row) for row in range(len(problem.ids_BL))], temperature, count or 1)

    def _soft(self, problem: Problem, row: int) -> SoftTargets:
        ids, width = problem.ids_BL[row].numpy(), problem.student_BLV.shape[-1]
        return from_logits(problem.teacher_BLW[row, :-1], ids, 1, _K, _TEMPERATURES, _key(row), width)

    def _loss(self, problem: Problem, soft: list[SoftTargets], temperature: float, count: int) -> torch.Tensor:
        examples = [
            Example(ids.numpy(), np.zeros(len(ids), np.float32), on.numpy().astype(np.float32), targets)
            for ids, on, targets in zip(problem.ids_BL, problem.supervised_BL, soft, strict=True)
        ]
        batch = collate(examples, 0, temperature)
        # The given logits are used as hidden states, with the identity as head.
        head = torch.eye(problem.student_BLV.shape[-1])
        return Logit(temperature).loss(problem.student_BLV, head, batch).total / count

    def chunked(self, hidden_ND: torch.Tensor, head_VD: torch.Tensor, teacher_NV: torch.Tensor, chunk: int) -> torch.Tensor:
        top, ids = teacher_NV.softmax(-1).topk(_K, -1)
        ones = torch.ones(len(hidden_ND))
        targets = TokenTargets(torch.zeros(len(hidden_ND), dtype=torch.long), ids, top, ones, 0 * ones)
        return distill_loss(hidden_ND, head_VD, targets, chunk=chunk).total

    def tokenizers(self, student: dict[str, int], teacher: dict[str, int]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            given = [from_logits(torch.zeros(1, 4), np.array([0, 1]), 1, 2, (), _key(0))]
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
        return [self._loss(part, [cached[_key(row)]], 1.0, 1).item() for row, part in enumerate(parts)]

    def cached_at(self, teacher_NV: torch.Tensor, temperature: float, log_z: bool) -> tuple[torch.Tensor, torch.Tensor]:
        ids = np.zeros(len(teacher_NV) + 1, np.int64)
        soft = from_logits(teacher_NV, ids, 1, _K, (temperature,) if log_z else (), _key(0))
        stored = torch.from_numpy(soft.log_z[temperature]) if log_z else None
        return torch.from_numpy(soft.top_ids_TK).long(), temper(torch.from_numpy(soft.top_logprobs_TK), stored, temperature)

    def listed(self, ids: list[int], logprobs: list[float]) -> tuple[list[int], list[float]]:
        found = from_listed([ids], [logprobs], [0, ids[0]], 1, len(ids), _key(0))
        return found.top_ids_TK[0].tolist(), found.top_logprobs_TK[0].tolist()

    def ask_teacher(self, model: Any, ids_BL: torch.Tensor) -> None:
        list(score_sequences(model, [Sequenced(_key(i), row.tolist()) for i, row in enumerate(ids_BL)], _K, (1.0,), 4096))

    def longer_prompt(self, prompt: list[int], longer: list[int], completion: list[int], scored: list[int]) -> None:
        ids, begin = (*prompt, *completion), len(prompt)
        spans = (Span("prompt", 0, begin), Span("completion", begin, len(ids)))
        row = TrainingRow(*_key(0)[:2], ids, spans, "tokenizer", "", "teacher", teacher_prompt_ids=tuple(longer))
        soft = for_student(from_logits(torch.zeros(len(scored), 4), [*longer, *scored], len(longer), 2, (), _key(0)), row)
        to_example(row, soft, Supervision(1.0))

    def other_ids(self, ids_L: torch.Tensor, others_L: torch.Tensor) -> None:
        ids = tuple(ids_L.tolist())
        row = TrainingRow(*_key(0)[:2], ids, (Span("completion", 0, len(ids)),), "tokenizer", "", "teacher")
        to_example(row, from_logits(torch.zeros(len(others_L) - 1, 4), others_L.numpy(), 1, 2, (), _key(0)), Supervision(1.0))


def _key(row: int) -> SignalKey:
    return SignalKey(f"row-{row}", 0, "")


class _Given(torch.nn.Module):
    """A teacher with given logits: they are its hidden states, and its head is the identity."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self._problem, width = problem, problem.teacher_BLW.shape[-1]
        self._head = torch.nn.Linear(width, width, bias=False)
        self._head.weight.data.copy_(torch.eye(width))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        rows = [int((self._problem.ids_BL == row).all(-1).nonzero()[0]) for row in input_ids]
        return SimpleNamespace(last_hidden_state=self._problem.teacher_BLW[rows])

    def get_decoder(self) -> Any:
        return self

    def get_output_embeddings(self) -> Any:
        return self._head


class Dense(Implementation):
    """``finetune.method: online`` with a divergence over the whole vocabulary; the teacher runs once, before training."""

    version = __version__
    _beta = 0.3

    def __init__(self, divergence: Divergence) -> None:
        self.name, self._divergence = f"redistill-{divergence}", divergence

    def divergence(self, teacher_NV: torch.Tensor, student_NV: torch.Tensor) -> torch.Tensor:
        log_p, log_q = teacher_NV.log_softmax(-1), student_NV.log_softmax(-1)
        p, q, beta = log_p.exp(), log_q.exp(), self._beta
        # log m is computed from logarithms, so that the reference does not underflow either.
        of_p, of_q = math.log(beta), math.log1p(-beta)
        log_m, log_other = torch.logaddexp(log_p + of_p, log_q + of_q), torch.logaddexp(log_p + of_q, log_q + of_p)
        from_p, from_q = (p * (log_p - log_m)).sum(-1), (q * (log_q - log_m)).sum(-1)
        return {
            "forward_kl": (p * (log_p - log_q)).sum(-1),
            "reverse_kl": (q * (log_q - log_p)).sum(-1),
            "jsd": beta * from_p + (1.0 - beta) * from_q,
            "skew_kl": from_p,
            "skew_reverse_kl": (q * (log_q - log_other)).sum(-1),
        }[self._divergence]

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        method, told = self._asked(problem, _Given(problem), temperature)
        return self._of_batch(method, told, problem.student_BLV) / (count or 1)

    def _asked(self, problem: Problem, teacher: Any, temperature: float) -> tuple[Online, list[Example]]:
        examples = [
            Example(ids.numpy(), np.zeros(len(ids), np.float32), on.numpy().astype(np.float32), None)
            for ids, on in zip(problem.ids_BL, problem.supervised_BL, strict=True)
        ]
        vocabulary = min(problem.student_BLV.shape[-1], problem.teacher_BLW.shape[-1])
        method = Online(teacher, vocabulary, self._divergence, self._beta, temperature, states_bytes=1 << 20)
        return method, list(method.prepare(examples, passes=2))

    def _of_batch(self, method: Online, told: list[Example], student_BLV: torch.Tensor) -> torch.Tensor:
        return method.loss(student_BLV, torch.eye(student_BLV.shape[-1]), collate(told, 0, 1.0)).total

    def chunked(self, hidden_ND: torch.Tensor, head_VD: torch.Tensor, teacher_NV: torch.Tensor, chunk: int) -> torch.Tensor:
        ones, labels = torch.ones(len(hidden_ND)), torch.zeros(len(hidden_ND), dtype=torch.long)
        teacher = TeacherStates(teacher_NV, torch.eye(teacher_NV.shape[-1]))
        return dense_loss(hidden_ND, head_VD, teacher, DenseTargets(labels, ones, 0 * ones), self._divergence, self._beta, 1.0, chunk).total

    def by_key(self, problem: Problem, order: list[int]) -> list[float]:
        method, told = self._asked(problem.rows(order), _Given(problem), 1.0)
        rows = [told[order.index(row)] for row in range(len(order))]
        return [self._of_batch(method, [one], problem.student_BLV[i : i + 1]).item() for i, one in enumerate(rows)]

    def ask_teacher(self, model: Any, ids_BL: torch.Tensor) -> None:
        width = model.get_output_embeddings().weight.shape[0]
        logits = torch.zeros(*ids_BL.shape, width)
        self._asked(Problem(ids_BL, torch.ones_like(ids_BL, dtype=torch.bool), logits, logits), model, 1.0)
