"""The dense divergences against their definitions in float64 and autograd, and the closed-form gradients against finite differences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional

from redistill.distillation.losses.divergences import DenseTargets, TeacherStates, dense_loss
from redistill.distillation.losses.fused_head import distill_loss
from redistill.distillation.losses.types import TokenTargets
from redistill.distillation.losses.workspace import Workspace
from redistill.distillation.types import Divergence

N, D, E, V = 13, 6, 5, 29
KINDS: tuple[Divergence, ...] = ("forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl")
TIGHT = {"rtol": 1e-11, "atol": 1e-12}


def problem(
    dtype: torch.dtype = torch.float64, n: int = N, spread: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, TeacherStates, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    hidden, head = torch.randn(n, D, generator=g, dtype=torch.float64), spread * torch.randn(V, D, generator=g, dtype=torch.float64)
    teacher = TeacherStates(
        torch.randn(n, E, generator=g, dtype=torch.float64).to(dtype),
        (spread * torch.randn(V, E, generator=g, dtype=torch.float64)).to(dtype),
    )
    return hidden.to(dtype).requires_grad_(), head.to(dtype).requires_grad_(), teacher, torch.randint(V, (n,), generator=g)


def defined(logits_s: torch.Tensor, logits_t: torch.Tensor, kind: Divergence, beta: float) -> torch.Tensor:
    """Per token, straight from the definition."""
    p, q = logits_t.softmax(-1), logits_s.softmax(-1)

    def kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * (a.log() - b.log())).sum(-1)

    m = beta * p + (1 - beta) * q
    values = {"forward_kl": lambda: kl(p, q), "reverse_kl": lambda: kl(q, p), "skew_kl": lambda: kl(p, m),
              "skew_reverse_kl": lambda: kl(q, (1 - beta) * p + beta * q),
              "jsd": lambda: beta * kl(p, m) + (1 - beta) * kl(q, m)}  # fmt: skip
    return values[kind]()


@pytest.mark.parametrize(("kind", "temperature", "beta"), list(itertools.product(KINDS, (1.0, 2.5), (0.1, 0.7))))
@pytest.mark.parametrize("kd_ce", [(1.0, 0.0), (0.6, 0.4), (0.0, 1.0)])
def test_value_and_gradients_are_those_of_the_definition(
    kind: Divergence, temperature: float, beta: float, kd_ce: tuple[float, float]
) -> None:
    hidden, head, teacher, labels = problem()
    kd, ce = (torch.linspace(0.5, 1.5, N, dtype=torch.float64) * w for w in kd_ce)
    sums = dense_loss(hidden, head, teacher, DenseTargets(labels, kd, ce), kind, beta, temperature, chunk=4)
    mine = torch.autograd.grad(2.0 * sums.total, (hidden, head))
    logits_s, logits_t = hidden @ head.T, teacher.hidden_NE @ teacher.head_WE.T
    values = defined(logits_s / temperature, logits_t / temperature, kind, beta)
    nll = functional.cross_entropy(logits_s, labels, reduction="none")
    total = (kd * values * temperature**2 + ce * nll).sum()
    torch.testing.assert_close(sums.total.detach(), total.detach(), **TIGHT)
    torch.testing.assert_close(sums.kl_sum, values[kd > 0].sum().detach(), **TIGHT)
    torch.testing.assert_close(sums.ce_sum, nll[ce > 0].sum().detach(), **TIGHT)
    for got, wanted in zip(mine, torch.autograd.grad(2.0 * total, (hidden, head)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: Divergence) -> None:
    hidden, head, teacher, labels = problem(n=3)
    weights = torch.full((3,), 0.5, dtype=torch.float64)

    def loss(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return dense_loss(h, w, teacher, DenseTargets(labels, weights, weights), kind, 0.3, 1.7, chunk=2).total

    assert torch.autograd.gradcheck(loss, (hidden, head))


@pytest.mark.parametrize("kind", KINDS)
def test_every_chunk_and_length_is_the_same_and_float32_is_close(kind: Divergence) -> None:
    for n in (1, 2, 7, 13):
        hidden, head, teacher, labels = problem(n=n)
        ones = torch.ones(n, dtype=torch.float64)
        whole = dense_loss(hidden, head, teacher, DenseTargets(labels, ones, 0 * ones), kind)
        for chunk in (1, 2, 5, 64):
            part = dense_loss(hidden, head, teacher, DenseTargets(labels, ones, 0 * ones), kind, chunk=chunk, workspace=Workspace())
            torch.testing.assert_close(part.total, whole.total, **TIGHT)
        small = [t.detach().float() for t in (hidden, head, *teacher, ones)]
        rough = dense_loss(small[0], small[1], TeacherStates(small[2], small[3]), DenseTargets(labels, small[4], 0 * small[4]), kind)
        torch.testing.assert_close(rough.total.double(), whole.total.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_models_are_at_zero_with_no_gradient(kind: Divergence) -> None:
    hidden, head, _, labels = problem()
    ones = torch.ones(N, dtype=torch.float64)
    sums = dense_loss(
        hidden, head, TeacherStates(hidden.detach(), head.detach()), DenseTargets(labels, ones, 0 * ones), kind, temperature=2.0
    )
    grads = torch.autograd.grad(sums.total, (hidden, head))
    assert abs(sums.total.item()) < 1e-12 and max(g.abs().max().item() for g in grads) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_padded_heads_are_cut_to_the_shared_range(kind: Divergence) -> None:
    """Rows behind the tokenizer's last id hold anything; whichever side has them, the others decide alone (KD rule 7)."""
    hidden, head, teacher, labels = problem()
    ones = torch.ones(N, dtype=torch.float64)
    wanted = dense_loss(hidden, head, teacher, DenseTargets(labels, ones, ones), kind)
    wide = torch.cat([teacher.head_WE, 9.0 * torch.ones(7, E, dtype=torch.float64)])
    padded = dense_loss(hidden, head, teacher._replace(head_WE=wide), DenseTargets(labels, ones, ones), kind)
    torch.testing.assert_close(padded.total, wanted.total, **TIGHT)
    student = torch.cat([head.detach(), 9.0 * torch.ones(7, D, dtype=torch.float64)]).requires_grad_()
    sums = dense_loss(hidden, student, teacher, DenseTargets(labels, ones, ones), kind)
    torch.testing.assert_close(sums.total, wanted.total, **TIGHT)
    (grad,) = torch.autograd.grad(sums.total, student)
    assert not grad[V:].any() and grad[:V].any()


def test_forward_kl_is_the_sparse_loss_with_every_token_listed() -> None:
    hidden, head, teacher, labels = problem()
    kd, ce = torch.full((N,), 0.7, dtype=torch.float64), torch.full((N,), 0.3, dtype=torch.float64)
    p = (teacher.hidden_NE @ teacher.head_WE.T).softmax(-1)
    sparse = distill_loss(hidden, head, TokenTargets(labels, torch.arange(V).repeat(N, 1), p, kd, ce))
    torch.testing.assert_close(dense_loss(hidden, head, teacher, DenseTargets(labels, kd, ce)).total, sparse.total, rtol=1e-9, atol=1e-9)


def in_logarithms(logits_s: torch.Tensor, logits_t: torch.Tensor, kind: Divergence, beta: float) -> torch.Tensor:
    """The same definition for models so sure that probabilities underflow."""
    log_p, log_q = logits_t.log_softmax(-1), logits_s.log_softmax(-1)

    def mixed(share_of_p: float) -> torch.Tensor:
        return torch.logaddexp(log_p + math.log(share_of_p), log_q + math.log1p(-share_of_p))

    def kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.exp() * (a - b)).sum(-1)

    values = {"forward_kl": lambda: kl(log_p, log_q), "reverse_kl": lambda: kl(log_q, log_p), "skew_kl": lambda: kl(log_p, mixed(beta)),
              "skew_reverse_kl": lambda: kl(log_q, mixed(1 - beta)),
              "jsd": lambda: beta * kl(log_p, mixed(beta)) + (1 - beta) * kl(log_q, mixed(beta))}  # fmt: skip
    return values[kind]()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gap", [20.0, 95.0, 300.0])
def test_sure_models_agree_with_the_definition(kind: Divergence, gap: float) -> None:
    """Student and teacher each sure of another token, or of the same: where float32 probabilities are 0, values and gradients are still those of float64."""
    student = torch.tensor([[gap, 0.0, 1.0, 2.0], [gap, 0.0, 1.0, 2.0]])
    teacher = torch.tensor([[0.0, gap, 2.0, 1.0], [gap + 1.0, 3.0, 0.0, 1.0]])
    ones, labels = torch.ones(2), torch.zeros(2, dtype=torch.long)
    hidden = student.clone().requires_grad_()
    sums = dense_loss(hidden, torch.eye(4), TeacherStates(teacher, torch.eye(4)), DenseTargets(labels, ones, 0 * ones), kind, 0.1)
    wide = student.double().requires_grad_()
    wanted = in_logarithms(wide, teacher.double(), kind, 0.1).sum()
    torch.testing.assert_close(sums.total.double(), wanted, rtol=1e-5, atol=1e-5)
    mine, theirs = torch.autograd.grad(sums.total, hidden)[0], torch.autograd.grad(wanted, wide)[0]
    torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sure_models_stay_finite_in_float32(kind: Divergence) -> None:
    hidden, head, teacher, labels = problem(torch.float32, spread=200.0)
    ones = torch.ones(N)
    sums = dense_loss(hidden, head, teacher, DenseTargets(labels, ones, ones), kind)
    grads = torch.autograd.grad(sums.total, (hidden, head))
    assert torch.isfinite(sums.total) and all(torch.isfinite(g).all() for g in grads)


def test_an_empty_batch_is_a_zero_that_is_connected() -> None:
    hidden, head, teacher, labels = problem(n=0)
    nothing = torch.empty(0, dtype=torch.float64)
    sums = dense_loss(hidden, head, teacher, DenseTargets(labels, nothing, nothing))
    sums.total.backward()
    assert float(sums.total.detach()) == 0.0 and head.grad is not None and not head.grad.any()


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head, teacher, labels = problem()
    ones = torch.ones(N, dtype=torch.float64)
    dense_loss(hidden, head.detach(), teacher, DenseTargets(labels, ones, ones)).total.backward()
    assert hidden.grad is not None and head.grad is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_broken_teacher_is_refused(bad: float) -> None:
    hidden, head, teacher, labels = problem()
    teacher.hidden_NE[5, 1] = bad
    ones = torch.ones(N, dtype=torch.float64)
    with pytest.raises(ValueError, match="NaN or infinite logits"):
        dense_loss(hidden, head, teacher, DenseTargets(labels, ones, ones))


@pytest.mark.parametrize("kind", ["jsd", "skew_kl", "skew_reverse_kl"])
@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 1.1, float("nan")])
def test_a_mixture_of_one_is_refused(beta: float, kind: Divergence) -> None:
    hidden, head, teacher, labels = problem()
    ones = torch.ones(N, dtype=torch.float64)
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        dense_loss(hidden, head, teacher, DenseTargets(labels, ones, ones), kind, beta)
