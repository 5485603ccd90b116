"""Which models redistill can train, benchmark and cut: decoders with full weights, known to transformers, with a list of layers.

It is read from ``config.json``, before any weight is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redistill.errors import DataError
from redistill.io.json import read_json


def check_supported(path: Path) -> None:
    """Refuse a model that a later stage could not use.

    Raises:
        DataError: it needs code of its own, its weights are quantised, or it is no causal language model; says which and what to do.
    """
    config = read_json(path / "config.json")
    if not isinstance(config, dict):
        raise DataError(f"{path / 'config.json'} is no JSON object; save the model again with save_pretrained")
    if config.get("auto_map") and not _is_known(config):
        raise DataError(
            f"{path} needs code of its own (auto_map in config.json), and redistill runs no code that comes with weights; use a model that transformers knows"
        )
    if config.get("quantization_config"):
        method = str((config["quantization_config"] or {}).get("quant_method", "unknown"))[:40]
        raise DataError(
            f"{path} has quantised weights ({method}); tuning, scoring and students need full weights; name the model from which they were made, "
            "or serve this one behind an endpoint with teacher.backend: openai"
        )
    if config.get("is_encoder_decoder") or not _is_causal(config):
        kind = config.get("model_type", "unknown")
        raise DataError(
            f"{path} is a model of type {kind} ({', '.join(config.get('architectures') or ['no architecture'])}), which is no decoder that transformers loads as a causal "
            "language model; name such a model"
        )


def _is_causal(config: dict[str, Any]) -> bool:
    if any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in config.get("architectures") or ()):
        return True
    # The import takes seconds, and most checkpoints say it in their name.
    return _is_known(config)


def _is_known(config: dict[str, Any]) -> bool:
    """Whether transformers itself has code for this type of model. Published checkpoints keep the name of their own code when it has."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return config.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
