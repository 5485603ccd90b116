"""The sparse loss is a divergence: never negative, zero at equality only, and its parts are whole distributions."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from redistill.distillation.losses.fused_head import distill_loss
from redistill.distillation.losses.tail_bucket import temper
from redistill.distillation.losses.types import TokenTargets
from redistill.distillation.soft_targets.from_teacher import from_listed, from_logits
from redistill.distillation.types import SignalKey
from tests.dense import dense

LOGITS = st.floats(-12, 12)
TEMPERATURES = st.sampled_from([0.5, 1.0, 2.0, 4.0])


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int, float]:
    """Student and teacher logits over one vocabulary, K, and a temperature."""
    n, v = draw(st.integers(1, 4)), draw(st.integers(2, 12))
    student, teacher = (torch.from_numpy(draw(hnp.arrays(np.float64, (n, v), elements=LOGITS))) for _ in range(2))
    return student, teacher, draw(st.integers(1, v)), draw(TEMPERATURES)


def targets_of(teacher: torch.Tensor, k: int, temperature: float) -> TokenTargets:
    top, ids = torch.softmax(teacher / temperature, -1).topk(k, -1)
    n = len(teacher)
    return TokenTargets(torch.zeros(n, dtype=torch.long), ids, top, torch.ones(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64))


def loss_of(student: torch.Tensor, targets: TokenTargets, temperature: float) -> tuple[float, torch.Tensor]:
    """The loss and its gradient by the logits: the head is the identity."""
    hidden = student.clone().requires_grad_()
    total = distill_loss(hidden, torch.eye(student.shape[1], dtype=torch.float64), targets, temperature).total
    total.backward()
    assert hidden.grad is not None
    return total.item(), hidden.grad


@given(case=cases())
def test_never_negative_and_as_the_reference(case: tuple[torch.Tensor, torch.Tensor, int, float]) -> None:
    student, teacher, k, temperature = case
    targets = targets_of(teacher, k, temperature)
    value, grad = loss_of(student, targets, temperature)
    assert value >= -1e-12
    expected = dense(student, torch.eye(student.shape[1]), targets, temperature)
    np.testing.assert_allclose(value, expected.total.item(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(grad, expected.grad_hidden, rtol=1e-7, atol=1e-9)
    # Probabilities sum to one on both sides, so a shift of all logits changes nothing.
    np.testing.assert_allclose(grad.sum(-1), np.zeros(len(student)), atol=1e-9)


@given(case=cases(), shift=st.floats(-5, 5))
def test_zero_at_equality(case: tuple[torch.Tensor, torch.Tensor, int, float], shift: float) -> None:
    _, teacher, k, temperature = case
    value, grad = loss_of(teacher + shift, targets_of(teacher, k, temperature), temperature)
    assert abs(value) < 1e-9
    np.testing.assert_allclose(grad, np.zeros(teacher.shape), atol=1e-9)


@given(case=cases())
def test_more_of_the_teacher_is_never_less_loss(case: tuple[torch.Tensor, torch.Tensor, int, float]) -> None:
    """The tail is one outcome; splitting an outcome cannot lower a KL, and at K = V it is the whole one."""
    student, teacher, _, temperature = case
    v = teacher.shape[1]
    losses = [loss_of(student, targets_of(teacher, k, temperature), temperature)[0] for k in range(1, v + 1)]
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(losses))
    p, q = torch.log_softmax(teacher / temperature, -1), torch.log_softmax(student / temperature, -1)
    np.testing.assert_allclose(losses[-1], temperature**2 * (p.exp() * (p - q)).sum().item(), rtol=1e-9, atol=1e-9)


@given(case=cases())
def test_top_k_and_tail_are_one(case: tuple[torch.Tensor, torch.Tensor, int, float]) -> None:
    _, teacher, k, temperature = case
    soft = from_logits(teacher, np.arange(len(teacher) + 1), 1, k, (temperature,), SignalKey("row", 0, ""))
    np.testing.assert_allclose(np.exp(soft.top_logprobs_TK).sum(-1) + soft.tail_T, np.ones(len(teacher)), atol=1e-6)
    assert (soft.tail_T >= 0).all() and (np.diff(soft.top_logprobs_TK, axis=-1) <= 0).all()
    assert all(len(set(ids)) == k for ids in soft.top_ids_TK.tolist())
    log_z = None if temperature == 1.0 else torch.from_numpy(soft.log_z[temperature])
    tempered = temper(torch.from_numpy(soft.top_logprobs_TK), log_z, temperature)
    np.testing.assert_allclose(tempered, torch.softmax(teacher / temperature, -1).topk(k, -1).values, rtol=1e-4, atol=1e-6)


@given(case=cases(), data=st.data())
def test_what_an_engine_lists_is_what_the_logits_say(case: tuple[torch.Tensor, torch.Tensor, int, float], data: st.DataObject) -> None:
    """Listed in any order, with one of the tokens twice: the same soft targets as from the logits."""
    _, teacher, k, _ = case
    expected = from_logits(teacher, np.arange(len(teacher) + 1), 1, k, (1.0,), SignalKey("row", 0, ""))
    ids, logprobs = [], []
    for row_ids, row_lp in zip(expected.top_ids_TK.tolist(), expected.top_logprobs_TK.tolist(), strict=True):
        pairs = list(zip(row_ids, row_lp, strict=True))
        pairs = data.draw(st.permutations([*pairs, data.draw(st.sampled_from(pairs))]))
        ids.append([i for i, _ in pairs])
        logprobs.append([x for _, x in pairs])
    listed = from_listed(ids, logprobs, range(len(teacher) + 1), 1, k, SignalKey("row", 0, ""))
    np.testing.assert_array_equal(listed.top_logprobs_TK, expected.top_logprobs_TK)
    np.testing.assert_allclose(listed.tail_T, expected.tail_T, atol=1e-6)
    assert [sorted(x) for x in listed.top_ids_TK.tolist()] == [sorted(x) for x in expected.top_ids_TK.tolist()]
    assert (listed.entropy_T <= expected.entropy_T + 1e-5).all()
