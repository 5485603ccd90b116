"""The sparse loss against a dense float64 reference and against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from redistill.distillation.losses.fused_head import distill_loss
from redistill.distillation.losses.tail_bucket import temper
from redistill.distillation.losses.types import TokenTargets
from redistill.distillation.losses.workspace import Workspace
from tests.dense import dense

FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}
FLOAT64 = {"rtol": 1e-12, "atol": 1e-12}

N, D, V, K = 11, 6, 23, 5
MIXTURES = {"kd only": (1.0, 0.0), "ce only": (0.0, 1.0), "both": (0.7, 0.3)}


def problem(dtype=torch.float64, *, mass: float = 0.8, k: int = K, kd: float = 0.7, ce: float = 0.3, label_inside: bool = False):
    """Hidden states, head, and a teacher that puts ``mass`` on k random tokens of each position."""
    g = torch.Generator().manual_seed(3)
    hidden = torch.randn(N, D, generator=g, dtype=torch.float64)
    head = torch.randn(V, D, generator=g, dtype=torch.float64)
    ids = torch.stack([torch.randperm(V, generator=g)[:k] for _ in range(N)])
    p = torch.rand(N, k, generator=g, dtype=torch.float64) + 0.05
    p = mass * p / p.sum(-1, keepdim=True)
    labels = ids[:, 0] if label_inside else torch.stack([next(v for v in torch.arange(V) if v not in row) for row in ids])
    targets = TokenTargets(labels, ids, p.to(dtype), torch.full((N,), kd, dtype=dtype), torch.full((N,), ce, dtype=dtype))
    return hidden.to(dtype).requires_grad_(), head.to(dtype).requires_grad_(), targets


def check(hidden, head, targets, temperature: float = 1.0, tolerance=FLOAT64) -> None:
    sums = distill_loss(hidden, head, targets, temperature)
    sums.total.backward()
    expected = dense(hidden, head, targets, temperature)
    torch.testing.assert_close(sums.total.detach().double(), expected.total, **tolerance)
    torch.testing.assert_close(sums.kl_sum.double(), expected.kl_N[targets.kd_weight_N > 0].sum(), **tolerance)
    torch.testing.assert_close(sums.ce_sum.double(), expected.ce_N[targets.ce_weight_N > 0].sum(), **tolerance)
    torch.testing.assert_close(hidden.grad.double(), expected.grad_hidden, **tolerance)
    torch.testing.assert_close(head.grad.double(), expected.grad_head, **tolerance)


@pytest.mark.parametrize("label_inside", [True, False], ids=["label in K", "label outside K"])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_agrees_with_the_dense_reference(mixture: str, temperature: float, label_inside: bool) -> None:
    kd, ce = MIXTURES[mixture]
    check(*problem(kd=kd, ce=ce, label_inside=label_inside), temperature)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_float32_agrees_too(temperature: float) -> None:
    check(*problem(torch.float32), temperature, FLOAT32)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_no_tail_when_the_teacher_lists_the_whole_vocabulary(temperature: float) -> None:
    check(*problem(mass=1.0, k=V, label_inside=True), temperature)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tail_mass_on_a_part_of_the_vocabulary(dtype: torch.dtype) -> None:
    hidden, head, targets = problem(dtype, mass=1.0)
    check(hidden, head, targets, 1.0, FLOAT64 if dtype == torch.float64 else FLOAT32)


def test_unused_places_are_nothing_even_where_they_repeat_a_used_id() -> None:
    hidden, head, targets = problem()
    ids = torch.cat([torch.zeros(N, 2, dtype=torch.long), targets.top_ids_NK, targets.top_ids_NK[:, :1]], -1)
    p = torch.cat([torch.zeros(N, 2), targets.top_p_NK, torch.zeros(N, 1)], -1)
    padded = targets._replace(top_ids_NK=ids, top_p_NK=p.double())
    check(hidden, head, padded)
    torch.testing.assert_close(distill_loss(hidden, head, padded).total, distill_loss(hidden, head, targets).total, **FLOAT64)


def test_row_without_teacher_has_the_hard_loss_alone() -> None:
    hidden, head, targets = problem()
    kd, p = targets.kd_weight_N.clone(), targets.top_p_NK.clone()
    kd[::2], p[::2] = 0.0, 0.0
    check(hidden, head, targets._replace(kd_weight_N=kd, top_p_NK=p), 2.0)


def test_no_soft_targets_at_all_is_cross_entropy() -> None:
    hidden, head, t = problem(kd=0.0, ce=1.0)
    bare = t._replace(top_ids_NK=t.top_ids_NK[:, :0], top_p_NK=t.top_p_NK[:, :0])
    expected = torch.nn.functional.cross_entropy(hidden @ head.T, t.labels_N, reduction="sum")
    for temperature in (1.0, 2.0):
        sums = distill_loss(hidden, head, bare, temperature)
        torch.testing.assert_close(sums.total, expected, **FLOAT64)
        assert sums.kl_sum == 0


def test_padding_tokens_of_weight_zero_change_nothing() -> None:
    hidden, head, targets = problem()
    weight = torch.ones(N, dtype=torch.float64)
    weight[[0, 4, 10]] = 0.0
    padded = targets._replace(kd_weight_N=targets.kd_weight_N * weight, ce_weight_N=targets.ce_weight_N * weight)
    kept = weight > 0
    sums = distill_loss(hidden, head, padded)
    sums.total.backward()
    assert torch.all(hidden.grad[~kept] == 0)
    expected = dense(hidden[kept], head, TokenTargets(*(x[kept] for x in targets)))
    torch.testing.assert_close(sums.total.detach(), expected.total, **FLOAT64)
    torch.testing.assert_close(hidden.grad[kept], expected.grad_hidden, **FLOAT64)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gradcheck(temperature: float) -> None:
    hidden, head, targets = problem()
    frozen = head.detach()
    assert torch.autograd.gradcheck(lambda h: distill_loss(h, frozen, targets, temperature, chunk=4).total, (hidden,))
    assert torch.autograd.gradcheck(lambda w: distill_loss(hidden.detach(), w, targets, temperature).total, (head,))


def hand(logits: list[float], ids: list[int], p: list[float], label: int, kd: float, ce: float, temperature: float):
    """One token; the head is the identity, so the hidden state is the logits and so is its gradient."""
    hidden = torch.tensor([logits], dtype=torch.float64, requires_grad=True)
    targets = TokenTargets(
        torch.tensor([label]),
        torch.tensor([ids]),
        torch.tensor([p], dtype=torch.float64),
        torch.tensor([kd]).double(),
        torch.tensor([ce]).double(),
    )
    sums = distill_loss(hidden, torch.eye(len(logits), dtype=torch.float64), targets, temperature)
    sums.total.backward()
    return sums, hidden.grad[0].tolist()


def test_by_hand_uniform_student_with_tail() -> None:
    # q = 1/4 each; p = (1/2 | tail 1/2): KL = ½ ln 2 + ½ ln ⅔ = ½ ln 4/3. Gradient: ¼ − ½ in K, ¼(1 − ½/¾) = 1/12 outside.
    sums, grad = hand([0.0] * 4, [0], [0.5], 1, 1.0, 0.0, 1.0)
    assert sums.total.item() == pytest.approx(0.143841036, abs=1e-9)
    assert sums.ce_sum.item() == 0.0, "no weight, no cross-entropy to report"
    assert grad == pytest.approx([-1 / 4, 1 / 12, 1 / 12, 1 / 12], abs=1e-12)


def test_by_hand_temperature_squares_value_and_gradient() -> None:
    # The same token at T = 2: four times the value; by a logit T² · (1/T) = 2 times the gradient at T = 1.
    sums, grad = hand([0.0] * 4, [0], [0.5], 1, 1.0, 0.0, 2.0)
    assert sums.total.item() == pytest.approx(4 * 0.143841036, abs=1e-8)
    assert sums.kl_sum.item() == pytest.approx(0.143841036, abs=1e-9)
    assert grad == pytest.approx([-1 / 2, 1 / 6, 1 / 6, 1 / 6], abs=1e-12)


def test_by_hand_mixture_at_temperature_two() -> None:
    # Logits (2 ln 3, 0): q_T = (¾, ¼) at T = 2 and (9/10, 1/10) at T = 1; p = (½, ½).
    # ½ · 4 · ½ ln 4/3 + ½ · ln 10/9; gradient ½ · 2 (¾ − ½) + ½ (9/10 − 1) = 0.2.
    sums, grad = hand([2 * math.log(3), 0.0], [0, 1], [0.5, 0.5], 0, 0.5, 0.5, 2.0)
    assert sums.total.item() == pytest.approx(math.log(4 / 3) + 0.5 * math.log(10 / 9), abs=1e-12)
    assert grad == pytest.approx([0.2, -0.2], abs=1e-12)


@pytest.mark.parametrize("mass", [0.9, 0.999])
def test_student_that_is_nearly_certain(mass: float) -> None:
    """A tail of 1e-9 has no digits as 1 − Σ_K q in float32; summed from its own exponentials it has all of them."""
    logits = torch.zeros(1, 100)
    logits[0, 7] = math.log(99 / 1e-9)
    targets = TokenTargets(torch.tensor([7]), torch.tensor([[7]]), torch.tensor([[mass]]), torch.tensor([1.0]), torch.tensor([0.0]))
    hidden = logits.clone().requires_grad_()
    sums = distill_loss(hidden, torch.eye(100), targets)
    sums.total.backward()
    expected = dense(logits, torch.eye(100), targets)
    torch.testing.assert_close(sums.total.detach().double(), expected.total, rtol=1e-5, atol=0.0)
    torch.testing.assert_close(hidden.grad.double(), expected.grad_hidden, rtol=1e-4, atol=1e-9)


def test_float32_tail_below_its_own_rounding_is_no_tail() -> None:
    hidden, head, targets = problem(torch.float32, mass=1.0)
    noisy = targets._replace(top_p_NK=targets.top_p_NK * (1 - 3e-7))
    assert distill_loss(hidden, head, noisy).total.item() == pytest.approx(distill_loss(hidden, head, targets).total.item(), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 10, 11, 12, 2048])
def test_chunked_equals_unchunked(chunk: int) -> None:
    whole_hidden, whole_head, targets = problem()
    whole = distill_loss(whole_hidden, whole_head, targets, 2.0, chunk=N)
    whole.total.backward()
    hidden, head, _ = problem()
    sums = distill_loss(hidden, head, targets, 2.0, chunk=chunk)
    (3.0 * sums.total).backward()
    torch.testing.assert_close(sums.total, whole.total, **FLOAT64)
    torch.testing.assert_close(hidden.grad, 3.0 * whole_hidden.grad, **FLOAT64)
    torch.testing.assert_close(head.grad, 3.0 * whole_head.grad, **FLOAT64)


@pytest.mark.parametrize("block", [1, 2, 3, 5, 2048])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_blocks_of_a_chunk_equal_the_whole_chunk(block: int, temperature: float, dtype: torch.dtype) -> None:
    """Whether the gradient has memory of its own (bfloat16, or a second temperature) or takes the logits'."""

    def of(block: int) -> list[torch.Tensor]:
        hidden, head, targets = problem()
        hidden, head = hidden.detach().to(dtype).requires_grad_(), head.detach().to(dtype).requires_grad_()
        sums = distill_loss(hidden, head, targets, temperature, chunk=5, workspace=Workspace(), block=block)
        sums.total.backward()
        return [*sums, hidden.grad, head.grad]

    for got, wanted in zip(of(block), of(5), strict=True):
        torch.testing.assert_close(got, wanted, **(FLOAT64 if got.dtype == torch.float64 else {}))


def test_empty_mask_is_a_zero_connected_to_the_graph() -> None:
    hidden, head, targets = problem()
    nothing = torch.zeros(N, dtype=torch.bool)
    sums = distill_loss(hidden[nothing], head, TokenTargets(*(x[nothing] for x in targets)))
    sums.total.backward()
    assert sums.total.item() == 0.0 and sums.kl_sum == 0.0 and sums.ce_sum == 0.0
    assert torch.equal(hidden.grad, torch.zeros_like(hidden)) and torch.equal(head.grad, torch.zeros_like(head))


def test_frozen_head_gets_no_gradient_and_changes_none() -> None:
    hidden, head, targets = problem()
    distill_loss(hidden, head, targets).total.backward()
    other, frozen, _ = problem()
    frozen.requires_grad_(False)
    distill_loss(other, frozen, targets).total.backward()
    assert frozen.grad is None
    assert torch.equal(other.grad, hidden.grad)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_bfloat16_is_close_to_float32(temperature: float) -> None:
    """bfloat16 has 8 significant bits: each rounding is at most 0.4 %, and a few of them meet in one sum."""
    hidden, head, targets = problem(torch.float32)
    low_hidden, low_head = hidden.detach().bfloat16().requires_grad_(), head.detach().requires_grad_()
    sums = distill_loss(low_hidden, low_head, targets, temperature)
    sums.total.backward()
    expected = dense(hidden, head, targets, temperature)
    assert sums.total.item() == pytest.approx(expected.total.item(), rel=0.02)
    assert low_hidden.grad.dtype == torch.bfloat16 and low_head.grad.dtype == torch.float32
    for got, want in ((low_hidden.grad, expected.grad_hidden), (low_head.grad, expected.grad_head)):
        assert ((got.double() - want).norm() / want.norm()).item() < 0.02


def test_temper_uses_the_stored_normaliser_or_refuses() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.5, -2.0]], dtype=torch.float64)
    logprobs = torch.log_softmax(logits, -1)
    log_z = torch.logsumexp(logprobs / 2.0, -1)
    torch.testing.assert_close(temper(logprobs[:, :2], log_z, 2.0), torch.softmax(logits / 2.0, -1)[:, :2], **FLOAT64)
    torch.testing.assert_close(temper(logprobs[:, :2], None, 1.0), torch.softmax(logits, -1)[:, :2], **FLOAT64)
    with pytest.raises(ValueError, match="temperature 2 needs the stored log Z_T"):
        temper(logprobs, None, 2.0)


def test_a_workspace_serves_batches_of_every_size_and_type() -> None:
    """Kept between steps, shared by several forward passes before one backward pass, and never mixed up with another head's."""
    workspace = Workspace()
    sums, wanted = [], []
    cases = [(torch.float32, 7, 1.0), (torch.float32, 11, 1.0), (torch.float32, 11, 2.0), (torch.float64, 3, 1.0), (torch.float64, 11, 1.0)]
    for dtype, rows, temperature in cases:
        hidden, head, targets = problem(dtype)
        part = TokenTargets(*(x[:rows] for x in targets))
        sums.append((distill_loss(hidden[:rows], head, part, temperature, chunk=4, workspace=workspace), hidden, head, rows))
        wanted.append(dense(hidden[:rows], head, part, temperature))
    narrow, head, targets = problem()
    other = TokenTargets(targets.labels_N % 10, targets.top_ids_NK[:, :1] % 10, targets.top_p_NK[:, :1], *targets[3:])
    sums.append((distill_loss(narrow, head[:10].detach().requires_grad_(), other, workspace=workspace), narrow, None, N))
    wanted.append(dense(narrow, head[:10], other))
    for (ours, hidden, _, rows), theirs in zip(sums, wanted, strict=True):
        ours.total.backward()
        tolerance = FLOAT64 if hidden.dtype == torch.float64 else FLOAT32
        torch.testing.assert_close(ours.total.detach().double(), theirs.total, **tolerance)
        torch.testing.assert_close(hidden.grad[:rows].double(), theirs.grad_hidden, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("kd_ce", [(1.0, 0.0), (0.5, 0.5)])
def test_a_student_that_is_sure_still_learns_the_tail(dtype: torch.dtype, temperature: float, kd_ce: tuple[float, float]) -> None:
    """A logit gap of 95: q_T = 3 e^-95 is 0 in float32, and r = 0.1. KL = 0.9 ln 0.9 + 0.1 (ln 0.1 − ln 3 + 95) = 9.0651; tail gradient −0.1/3."""
    kd, ce = kd_ce
    hidden = (temperature * torch.tensor([[96.0, 1.0, 1.0, 1.0]])).to(dtype).requires_grad_()
    wide = torch.promote_types(dtype, torch.float32)
    p, weights = torch.tensor([[0.9]], dtype=wide), (torch.tensor([kd], dtype=wide), torch.tensor([ce], dtype=wide))
    targets = TokenTargets(torch.tensor([0]), torch.tensor([[0]]), p, *weights)
    sums = distill_loss(hidden, torch.eye(4, dtype=wide), targets, temperature)
    sums.total.backward()
    rel = 1e-12 if dtype == torch.float64 else 1e-6
    assert sums.kl_sum.item() == pytest.approx(0.9 * math.log(0.9) + 0.1 * (math.log(0.1) - math.log(3) + 95), rel=rel)
    assert sums.total.item() == pytest.approx(kd * temperature**2 * sums.kl_sum.item(), rel=rel)
    # bfloat16 gradients are rounded once, to 8 significant bits.
    wanted = [kd * temperature * g for g in (0.1, -0.1 / 3, -0.1 / 3, -0.1 / 3)]
    assert hidden.grad[0].tolist() == pytest.approx(wanted, rel=2**-8 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_logits_of_any_spread_agree_with_the_reference(dtype: torch.dtype, temperature: float) -> None:
    """Gaps of several hundred, labels inside and outside K: values and gradients of a float64 log-sum-exp."""
    hidden, head, targets = problem(dtype)
    targets = targets._replace(labels_N=torch.where(torch.arange(N) % 2 == 0, targets.top_ids_NK[:, 0], targets.labels_N))
    with torch.no_grad():
        hidden *= 60.0
    check(hidden, head, targets, temperature, FLOAT64 if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-3})
