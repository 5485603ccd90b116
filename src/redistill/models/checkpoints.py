"""Loading and saving of a model and its tokenizer, as safetensors in hub layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from redistill.io.digests import tree_digest
from redistill.io.json import read_json
from redistill.models.generation import make_neutral
from redistill.models.loading import open_model
from redistill.models.tokenizers import load_tokenizer


def load_model(path: str | os.PathLike[str], dtype: str = "float32") -> Any:
    """A causal language model in eval mode, from safetensors only, with neutral generation settings (``redistill.models.generation``)."""
    import torch

    model = open_model(path, dtype=getattr(torch, dtype), use_safetensors=True).eval()
    make_neutral(model, end_ids_of(path))
    return model


def end_ids_of(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """All ids that end a completion of the model in this directory: the tokenizer's, and what its configurations list."""
    end_ids = [load_tokenizer(path).eos_token_id]
    for name in ("generation_config.json", "config.json"):
        tree = read_json(Path(path) / name) if (Path(path) / name).is_file() else {}
        listed = tree.get("eos_token_id", tree.get("text_config", {}).get("eos_token_id"))
        end_ids += listed if isinstance(listed, list) else [listed]
    return tuple(dict.fromkeys(int(i) for i in end_ids if i is not None))


def context_tokens(path: str | os.PathLike[str]) -> int | None:
    """The longest sequence that the model in this directory reads, in tokens; None where its configuration does not say."""
    return context_of(read_json(Path(path) / "config.json"))


def context_of(config: dict[str, Any]) -> int | None:
    """The longest sequence of a model with this configuration."""
    tree = {**config, **(config.get("text_config") or {})}
    known = [tree.get(name) for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")]
    return next((value for value in known if isinstance(value, int) and value > 0), None)


def save_checkpoint(model: Any, tokenizer: Any, target: str | os.PathLike[str]) -> None:
    """Weights in bfloat16 (what is served), config and tokenizer, in hub layout.

    The model is handed over: it is converted in place, since a copy would double the memory of a large one.
    """
    import torch

    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def model_digest(path: str | os.PathLike[str]) -> str:
    return tree_digest(path)
