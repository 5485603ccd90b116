"""The twelve rules: every loss that we ship keeps them, and each rule fails on an implementation that breaks it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from redistill.conformance.implementations import DENSE, conformance
from redistill.conformance.peers import KlDiv
from redistill.conformance.protocol import Implementation, Problem
from redistill.conformance.redistill_losses import Dense, Sparse
from redistill.conformance.rules import RULES, run_rules
from tests.unit.cli.test_cli import one_line, redistill


def test_ours_keeps_all_twelve() -> None:
    found = run_rules(Sparse())
    assert len(found) == 12 and {name: f.outcome for name, f in found.items()} == dict.fromkeys(RULES, "pass"), found
    assert all(f.error is not None and f.error < 1e-4 and f.why for f in found.values())


@pytest.mark.parametrize("divergence", DENSE)
def test_dense_losses_keep_every_rule_that_they_can_break(divergence: Any) -> None:
    found = run_rules(Dense(divergence))
    assert {n for n, f in found.items() if f.outcome == "not applicable"} == {"log_z"}
    assert not [(n, f) for n, f in found.items() if f.outcome == "fail"]


class Unshifted(Sparse):
    """The logits of a position learn the token that they have just read."""

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        return super().loss(
            Problem(problem.ids_BL, problem.supervised_BL.roll(1, 1), problem.student_BLV, problem.teacher_BLW), temperature, count
        )


class MeanOfMeans(Sparse):
    takes_count = False

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        return super().loss(problem, temperature, problem.count)


class Untempered(Sparse):
    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        return super().loss(problem, temperature, count) / temperature**2


class SoftCrossEntropy(KlDiv):
    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        chosen = problem.supervised_BL[:, 1:]
        p, q = (x[:, :-1][chosen].log_softmax(-1) for x in (problem.teacher_BLW, problem.student_BLV))
        return -(p.exp() * q).sum() / (count or 1)


class LosesTheLastChunk(Sparse):
    def chunked(self, hidden_ND: torch.Tensor, head_VD: torch.Tensor, teacher_NV: torch.Tensor, chunk: int) -> torch.Tensor:
        n = len(hidden_ND) // chunk * chunk or len(hidden_ND)
        return super().chunked(hidden_ND[:n], head_VD, teacher_NV[:n], chunk) + 0.0 * hidden_ND.sum()


class Disconnected(Sparse):
    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        return super().loss(problem, temperature, count) if problem.count else torch.zeros(())


class PadsWithZero(KlDiv):
    """The narrower head gets logits of nought, which are as good as any other token's."""

    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        student = problem.student_BLV
        if (missing := problem.teacher_BLW.shape[-1] - student.shape[-1]) > 0:
            student = torch.nn.functional.pad(student, (0, missing))
        return super().loss(Problem(problem.ids_BL, problem.supervised_BL, student, problem.teacher_BLW), temperature, count)


class ComparesWidths(Sparse):
    def tokenizers(self, student: dict[str, int], teacher: dict[str, int]) -> None:
        if len(student) != len(teacher):
            raise ValueError("other sizes")


class BoundByStep(Sparse):
    """Takes the cache row that stands at the step's number."""

    def by_key(self, problem: Problem, order: list[int]) -> list[float]:
        moved = Problem(problem.ids_BL, problem.supervised_BL, problem.student_BLV, problem.teacher_BLW[order])
        return super().by_key(moved, list(range(len(order))))


class Renormalises(Sparse):
    """Tempers a top-k by renormalising it, as if it had no tail."""

    def cached_at(self, teacher_NV: torch.Tensor, temperature: float, log_z: bool) -> tuple[torch.Tensor, torch.Tensor]:
        top, ids = teacher_NV.topk(4, -1)
        return ids, (top / temperature).softmax(-1)


class SwallowsNan(Sparse):
    def loss(self, problem: Problem, temperature: float = 1.0, count: int | None = None) -> torch.Tensor:
        teacher = problem.teacher_BLW.nan_to_num(0.0, neginf=0.0)
        return super().loss(Problem(problem.ids_BL, problem.supervised_BL, problem.student_BLV, teacher), temperature, count)


class CountsTwice(Sparse):
    def listed(self, ids: list[int], logprobs: list[float]) -> tuple[list[int], list[float]]:
        return ids, logprobs


class TeacherInTraining(Sparse):
    def ask_teacher(self, model: Any, ids_BL: torch.Tensor) -> None:
        model(ids_BL)


class TakesAnyCompletion(Sparse):
    """Trusts that what stands behind the teacher's longer prompt is the row's completion."""

    def longer_prompt(self, prompt: list[int], longer: list[int], completion: list[int], scored: list[int]) -> None:
        super().longer_prompt(prompt, longer, completion, completion)


class TakesAnyIds(Sparse):
    def other_ids(self, ids_L: torch.Tensor, others_L: torch.Tensor) -> None:
        return None


MUTANTS = [
    ("shift", Unshifted()),
    ("normalise_once", MeanOfMeans()),
    ("temperature_squared", Untempered()),
    ("report_kl", SoftCrossEntropy()),
    ("chunked", LosesTheLastChunk()),
    ("empty_mask", Disconnected()),
    ("vocabulary", PadsWithZero()),
    ("vocabulary", ComparesWidths()),
    ("bound_by_key", BoundByStep()),
    ("log_z", Renormalises()),
    ("teacher_rows", SwallowsNan()),
    ("teacher_rows", CountsTwice()),
    ("teacher_mode", TeacherInTraining()),
    ("teacher_mode", TakesAnyCompletion()),
    ("one_pass", TakesAnyIds()),
]


@pytest.mark.parametrize(("rule", "broken"), MUTANTS, ids=[type(m).__name__ for _, m in MUTANTS])
def test_each_rule_catches_what_breaks_it(rule: str, broken: Implementation) -> None:
    found = RULES[rule](broken)
    assert found.outcome == "fail" and found.why, found


def test_every_rule_has_a_mutant() -> None:
    assert {rule for rule, _ in MUTANTS} == set(RULES)


def test_peers_are_reported_with_what_was_measured() -> None:
    """Not a verdict on them for ever: these are the numbers of the versions that are pinned here."""
    version, found = conformance("trl-gkd")["trl-gkd"]
    assert version.startswith("trl 1.") and found["shift"].outcome == found["normalise_once"].outcome == "pass"
    for name in ("trl-gkd", "trl-distillation"):
        tempered = conformance(name)[name][1]["temperature_squared"]
        assert tempered.outcome == "not applicable" and "no text loss" in tempered.why, (
            "their trainers have no hard loss that T² could be weighed against"
        )
    tempered = conformance("liger-jsd")["liger-jsd"][1]["temperature_squared"]
    assert tempered.outcome == "fail" and tempered.error == pytest.approx(15 / 16, abs=1e-3), (
        "it has a hard loss, and no T²: at T = 4 a sixteenth"
    )
    _, plain = conformance("torch-kl_div")["torch-kl_div"]
    assert plain["normalise_once"].outcome == "fail" and plain["normalise_once"].error and plain["normalise_once"].error > 0.01


def test_the_command_prints_a_table_and_json(tmp_path: Any) -> None:
    table = redistill(tmp_path, "conformance", "--impl", "redistill")
    assert table.code == 0 and "redistill (0." in table.out and "12 of 12 pass, 0 fail" in table.out, table
    ran = redistill(tmp_path, "conformance", "--impl", "redistill-jsd", "--json")
    tree = json.loads(ran.out.splitlines()[-1])["implementations"]["redistill-jsd"]
    assert set(tree) == set(RULES) and set(tree["shift"]) == {"outcome", "error", "why"} and math.isfinite(tree["shift"]["error"])
    one_line(redistill(tmp_path, "conformance", "--impl", "nobody"), 2, "--impl nobody: unknown", "redistill, redistill-forward_kl")
