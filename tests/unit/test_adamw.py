"""AdamW one weight at a time: PyTorch's numbers, PyTorch's state, and copies that follow."""

from __future__ import annotations

import pytest
import torch

from redistill.adamw import CachedAdamW

SHAPES = ((7, 5), (300, 40), (3,))


def parameters() -> list[torch.nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=draw).bfloat16() for shape in SHAPES]


@pytest.mark.parametrize("max_norm", [1.0, 1e6])
def test_updates_are_pytorchs(max_norm: float) -> None:
    """Two groups of other weight decay, one weight without a gradient at first, gradients clipped or not."""
    theirs, ours = parameters(), parameters()
    options = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8}
    plain = torch.optim.AdamW(
        [{"params": theirs[:2], "weight_decay": 0.1}, {"params": theirs[2:], "weight_decay": 0.0}], fused=True, **options
    )
    copies = {ours[1]: ours[1].detach().bfloat16().requires_grad_()}
    cached = CachedAdamW([{"params": ours[:2], "weight_decay": 0.1}, {"params": ours[2:], "weight_decay": 0.0}], copies=copies, **options)
    for step in range(4):
        for i, grad in enumerate(gradients(step)):
            if i == 0 and step == 0:
                continue
            theirs[i].grad = grad.float()
            holder = copies.get(ours[i], ours[i])
            holder.grad = grad.clone().to(holder.dtype)
        norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        torch.testing.assert_close(cached.clip_to(max_norm), norm)
        plain.step()
        cached.step()
        plain.zero_grad()
        assert all(p.grad is None for p in [*ours, *copies.values()]), "gradients are used up"
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
        assert torch.equal(copies[ours[1]], ours[1].detach().bfloat16())
    state = plain.state_dict()["state"]
    for key, value in cached.state_dict()["state"].items():
        for name, tensor in value.items():
            torch.testing.assert_close(tensor, state[key][name], rtol=1e-5, atol=1e-7)


def test_a_gradient_of_the_weight_itself_goes_before_its_copys() -> None:
    """Micro-batches are added up in the weight's own gradient; the copy has none then, and is refreshed all the same."""
    (p,) = parameters()[:1]
    copy = p.detach().bfloat16().requires_grad_()
    optimizer = CachedAdamW([p], copies={p: copy}, lr=0.1)
    p.grad = torch.ones_like(p)
    before = p.detach().clone()
    assert optimizer.clip_to(1e6).item() == pytest.approx(35**0.5)
    optimizer.step()
    assert (p < before).all() and torch.equal(copy, p.detach().bfloat16())
