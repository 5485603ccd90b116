"""bfloat16 copies of a decoder's linear weights, kept beside the float32 weights that the optimiser updates.

Autocast casts every weight at every forward pass, and every gradient back to float32: at the bank example's shape a fifth of a training step on a CPU. Here the
copies are leaves of the graph: the forward pass reads them as they are, their gradients stay in bfloat16, and the optimiser refreshes a
copy right after it updated the weight (``redistill.adamw``). The numbers are those of autocast, since it too computes these gradients in
bfloat16 (Micikevicius et al. 2018, section 3.1: master weights).
"""

from __future__ import annotations

from typing import Any

import torch


class WorkingWeights:
    """Copies of the parameters of every ``torch.nn.Linear`` in ``decoder``; a frozen weight has a frozen copy."""

    def __init__(self, decoder: torch.nn.Module) -> None:
        self._decoder = decoder
        linear = {id(p) for module in decoder.modules() if isinstance(module, torch.nn.Linear) for p in module.parameters(recurse=False)}
        self._masters = {name: p for name, p in decoder.named_parameters() if id(p) in linear}
        self._copies = {name: p.detach().to(torch.bfloat16).requires_grad_(p.requires_grad) for name, p in self._masters.items()}

    def forward(self, **inputs: Any) -> Any:
        """The decoder's output, computed with the copies."""
        return torch.func.functional_call(self._decoder, self._copies, kwargs=inputs)

    def pairs(self) -> dict[torch.nn.Parameter, torch.Tensor]:
        """Each trained weight with its copy."""
        return {p: self._copies[name] for name, p in self._masters.items() if p.requires_grad}

    def refresh(self) -> None:
        """Make every copy equal to its weight again, after something else than the optimiser wrote weights (a checkpoint that was loaded)."""
        with torch.no_grad():
            for name, p in self._masters.items():
                self._copies[name].copy_(p)

    def accumulate(self) -> None:
        """Add the copies' gradients to the weights' own, in float32, so that micro-batches are summed without rounding."""
        for p, copy in self.pairs().items():
            if copy.grad is not None:
                p.grad = copy.grad.float() if p.grad is None else p.grad.add_(copy.grad)
                copy.grad = None
