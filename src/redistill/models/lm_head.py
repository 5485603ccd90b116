"""Checks that a model is supported: its logits must be its last hidden states times the head."""

from __future__ import annotations

from typing import Any

import torch

from redistill.errors import DataError


def check_supported_head(model: Any) -> None:
    """Raises an error for an unsupported model. The losses multiply hidden states with the head themselves, so logits must be exactly that product.

    Raises:
        DataError: the head has a bias, the model scales or caps its logits, or they are not numbers.
    """
    name = type(model).__name__
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise DataError(f"{name} has a bias on its output head, which the losses of redistill do not support; choose another model")
    device = model.get_output_embeddings().weight.device
    ids = torch.arange(4, device=device)[None]
    training = model.training
    with torch.no_grad():
        model.eval()
        model_logits = model(input_ids=ids).logits.float()
        head_logits = model.get_output_embeddings()(model.get_decoder()(input_ids=ids).last_hidden_state).float()
        model.train(training)
    if not (torch.isfinite(model_logits).all() and all(bool(torch.isfinite(p).all()) for p in model.parameters())):
        raise DataError(
            f"{name} has NaN or infinite weights, or returns such logits for four ordinary tokens; restore the checkpoint, or choose another"
        )
    if not torch.allclose(model_logits, head_logits, rtol=1e-2, atol=1e-2 * float(head_logits.abs().max())):
        odd = [k for k in ("logit_scale", "logits_scaling", "final_logit_softcapping") if getattr(model.config, k, None) not in (None, 1.0)]
        why = f" ({', '.join(f'{k}={getattr(model.config, k)}' for k in odd)})" if odd else ""
        raise DataError(
            f"{name} scales or caps its logits after the head{why}, which the losses of redistill do not support; choose another model"
        )
