"""The one place that loads a model, a tokenizer or a configuration with transformers.

Two rules hold for every load. No code of a model runs: a configuration can name Python files beside it, and transformers would ask on the terminal whether
to run them. And nothing is read from outside of the folder: what was not signed or hashed must not be loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redistill.errors import DataError
from redistill.io.json import read_json


def open_model(folder: str | os.PathLike[str], **options: Any) -> Any:
    """A causal language model from the files of ``folder``.

    Raises:
        DataError: it needs code of its own, or names files outside of the folder.
    """
    from transformers import AutoModelForCausalLM

    with _without_code(folder):
        return AutoModelForCausalLM.from_pretrained(str(folder), trust_remote_code=False, **options)


def open_tokenizer(folder: str | os.PathLike[str], **options: Any) -> Any:
    """A tokenizer from the files of ``folder``.

    Raises:
        DataError: as ``open_model``.
    """
    from transformers import AutoTokenizer

    with _without_code(folder):
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, **options)


def model_of(config: Any) -> Any:
    """A model with random weights, as a loaded configuration describes it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def require_inside(folder: str | os.PathLike[str]) -> None:
    """Check that the configurations of a checkpoint name only files that lie beside them.

    Raises:
        DataError: one names another file, or another model.
    """
    root = Path(folder)
    if (root / "adapter_config.json").is_file():
        raise DataError(
            f"{root} has an adapter_config.json, which names a base model outside of the folder; merge the adapter into its base (merge_and_unload) and save that"
        )
    for file, name in _named(root):
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors" if file != "tokenizer_config.json" else ".json"):
            kind = "tokenizer" if file == "tokenizer_config.json" else "*.safetensors"
            raise DataError(
                f"{root / file} names {name[:200]!r}, which is not a {kind} file of this folder: it would be neither signed nor hashed; "
                "save the model again with save_pretrained"
            )


def _named(root: Path) -> Iterator[tuple[str, str]]:
    """Each file that a configuration of a checkpoint tells transformers to read, with the configuration."""
    for file in sorted(root.glob("*.index.json")):
        weights = _tree(file).get("weight_map", {})
        for name in sorted({str(name) for name in weights.values()}) if isinstance(weights, dict) else ["weight_map"]:
            yield file.name, name
    if named := _tree(root / "config.json").get("transformers_weights"):
        yield "config.json", str(named)
    for name in _tree(root / "tokenizer_config.json").get("fast_tokenizer_files") or ():
        yield "tokenizer_config.json", str(name)


def _tree(file: Path) -> dict[str, Any]:
    tree = read_json(file) if file.is_file() else {}
    return tree if isinstance(tree, dict) else {}


@contextmanager
def _without_code(folder: str | os.PathLike[str]) -> Iterator[None]:
    require_inside(folder)
    try:
        yield
    except ValueError as error:
        if isinstance(error, DataError) or "trust_remote_code" not in str(error):
            raise
        raise DataError(
            f"{folder} names code of its own (auto_map), and redistill runs no code of a model; use a model that transformers knows without it"
        ) from None
