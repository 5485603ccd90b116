"""Which models the losses here can train or ask: those whose logits are their last hidden states times the head, and nothing else."""

from __future__ import annotations

from typing import Any

import torch

from redistill.errors import DataError


def check_supported_head(model: Any) -> None:
    """Our losses multiply hidden states with the head themselves: refuse models whose logits are more than that.

    Raises:
        DataError: the head has a bias, the model scales or caps its logits, or they are not numbers.
    """
    name = type(model).__name__
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise DataError(f"{name} has a bias on its output head, which the losses here do not support")
    device = model.get_output_embeddings().weight.device
    ids = torch.arange(4, device=device)[None]
    training = model.training
    with torch.no_grad():
        model.eval()
        theirs = model(input_ids=ids).logits.float()
        ours = model.get_output_embeddings()(model.get_decoder()(input_ids=ids).last_hidden_state).float()
        model.train(training)
    if not (torch.isfinite(theirs).all() and all(bool(torch.isfinite(p).all()) for p in model.parameters())):
        raise DataError(
            f"{name} has NaN or infinite weights, or gives such logits on four plain tokens: it is broken; restore or choose another checkpoint"
        )
    if not torch.allclose(theirs, ours, rtol=1e-2, atol=1e-2 * float(ours.abs().max())):
        odd = [k for k in ("logit_scale", "logits_scaling", "final_logit_softcapping") if getattr(model.config, k, None) not in (None, 1.0)]
        why = f" ({', '.join(f'{k}={getattr(model.config, k)}' for k in odd)})" if odd else ""
        raise DataError(f"{name} scales or caps its logits after the head{why}, which the losses here do not support; choose another model")
