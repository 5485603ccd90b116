"""Where model weights come from and how they are loaded.

``teacher.model`` and ``student.model`` are equally a local directory, a hub id, ``models:/NAME/VERSION`` of the MLflow
registry, or ``package:NAME/FILE.gguf``: weights that an installed package carries. Weights are safetensors, or GGUF
read through transformers; pickled weights are refused.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redistill.artifacts import file_digest, read_json, replacing_directory, tree_digest
from redistill.errors import ConfigError, DataError
from redistill.generation import make_neutral
from redistill.prompting import encode, tokenizer_digest, vocabulary_digest
from redistill.records import TeacherFingerprint, canonical_digest

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def resolve(model: str, revision: str | None = None, cache: str | os.PathLike[str] = ".redistill/models") -> Path:
    """A local directory in hub layout with safetensors and a tokenizer, for whatever the user named.

    Raises:
        ConfigError: nothing there, or an unknown form.
        DataError: there, but without tokenizer or with pickled weights only.
    """
    if model.startswith("package:"):
        return _from_package(model.removeprefix("package:"), Path(cache))
    if model.startswith("models:/"):
        return _from_registry(model, Path(cache))
    if Path(model).is_dir():
        return checked_directory(Path(model))
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
        raise ConfigError(
            f"model {model!r}: no such directory; give a local directory, a hub id (owner/name), models:/NAME/VERSION, or package:NAME/FILE.gguf"
        )
    return _from_hub(model, revision)


def source_digest(model: str, revision: str | None = None) -> str:
    """Digest of a model as its owner publishes it, without converting or loading it: what tells that it changed.

    A package's weights and a directory are hashed; a registry version and a hub commit are their own identity.
    """
    if model.startswith("package:"):
        return file_digest(_package_file(model.removeprefix("package:")))
    if Path(model).is_dir():
        return tree_digest(Path(model))
    if model.startswith("models:/"):
        return canonical_digest([_registry_version(model)])
    return canonical_digest([model, _from_hub(model, revision).name])


def _registry_version(uri: str) -> str:
    """``models:/NAME@ALIAS`` as ``models:/NAME/VERSION``: an alias moves, a version does not."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if not at:
        return uri
    import mlflow

    return f"models:/{name}/{mlflow.MlflowClient().get_model_version_by_alias(name, alias).version}"


def checked_directory(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise DataError(f"{path} has no config.json: it is not a model directory in hub layout; save the model there with save_pretrained")
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise DataError(f"{path} has no tokenizer ({', '.join(_TOKENIZER_FILES)}); save it there with tokenizer.save_pretrained")
    if not any(path.glob("*.safetensors")):
        raise DataError(
            f"{path} has no *.safetensors; pickled weights are not loaded, convert them with save_pretrained(safe_serialization=True)"
        )
    return path


def _package_file(name: str) -> Path:
    package, _, file = name.partition("/")
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"model package:{name}: package {package} is not installed; pip install {package}, or the extra that brings it")
    source = Path(next(iter(spec.submodule_search_locations))) / file
    if not source.is_file():
        raise ConfigError(f"model package:{name}: {package} holds no {file}")
    return source


def _from_package(name: str, cache: Path) -> Path:
    source = _package_file(name)
    target = cache / f"{source.stem}-{file_digest(source)[:12]}"
    if not target.is_dir():
        with replacing_directory(target) as temporary:
            _convert_gguf(source, temporary)
    return checked_directory(target)


def _convert_gguf(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, file = str(source.parent), source.name
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    # The GGUF header names the training run; a saved config must not carry somebody's folder name on.
    model.config._name_or_path = source.stem
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _from_registry(uri: str, cache: Path) -> Path:
    import mlflow

    uri = _registry_version(uri)
    target = cache / canonical_digest([uri])[:16]
    if not target.is_dir():
        with replacing_directory(target) as temporary:
            mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(temporary))
    inner = [p.parent for p in target.rglob("config.json") if any(p.parent.glob("*.safetensors"))]
    if not inner:
        raise DataError(f"{uri} holds no checkpoint in hub layout")
    return checked_directory(inner[0])


def _from_hub(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return checked_directory(
            Path(snapshot_download(model, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]))
        )
    except OSError as error:
        raise ConfigError(
            f"model {model!r} is neither a local directory nor to be had from the hub ({str(error).splitlines()[0]})"
        ) from None


def load_tokenizer(path: str | os.PathLike[str]) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(path: str | os.PathLike[str], dtype: str = "float32") -> Any:
    """A causal language model in eval mode, from safetensors only, with neutral generation settings (``redistill.generation``)."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(path), dtype=getattr(torch, dtype), use_safetensors=True).eval()
    make_neutral(model, end_ids_of(path))
    return model


def end_ids_of(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """All ids that end a completion of the model in this directory: the tokenizer's, and what its configurations list."""
    found = [load_tokenizer(path).eos_token_id]
    for name in ("generation_config.json", "config.json"):
        tree = read_json(Path(path) / name) if (Path(path) / name).is_file() else {}
        listed = tree.get("eos_token_id", tree.get("text_config", {}).get("eos_token_id"))
        found += listed if isinstance(listed, list) else [listed]
    return tuple(dict.fromkeys(int(i) for i in found if i is not None))


def save_checkpoint(model: Any, tokenizer: Any, target: str | os.PathLike[str]) -> None:
    """Weights in bfloat16 (what is served), config and tokenizer, in hub layout.

    The model is handed over: it is converted in place, since a copy would double the memory of a large one.
    """
    import torch

    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def fingerprint(path: str | os.PathLike[str], name: str) -> TeacherFingerprint:
    """Digest of weights, config, tokenizer and chat template: what makes a local model's answers change."""
    root = Path(path)
    weights = canonical_digest({p.name: file_digest(p) for p in sorted(root.glob("*.safetensors"))})
    parts = {
        "weights": weights,
        "config": file_digest(root / "config.json"),
        "tokenizer": _tokenizer_files_digest(root),
        "chat_template": _chat_template_digest(root),
    }
    return TeacherFingerprint(name, canonical_digest(parts), parts)


def tokenizer_digest_of(path: str | os.PathLike[str]) -> str:
    """The digest of a directory's id → token map, read without transformers where its file allows."""
    file = Path(path) / "tokenizer.json"
    if not file.is_file():
        return tokenizer_digest(load_tokenizer(path))
    from tokenizers import Tokenizer

    return vocabulary_digest(Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True))


def _tokenizer_files_digest(root: Path) -> str:
    """How text is cut as well as what ids mean: merges, normaliser and pre-tokeniser change answers too."""
    file = root / "tokenizer.json"
    if not file.is_file():
        return tokenizer_digest_of(root)
    tree = read_json(file)
    # Padding and truncation are the caller's and are rewritten at every save.
    return canonical_digest({k: v for k, v in tree.items() if k not in ("padding", "truncation")})


def _chat_template_digest(root: Path) -> str:
    """A template stands in a file of its own or in the tokenizer's configuration."""
    file = root / "chat_template.jinja"
    if file.is_file():
        return file_digest(file)
    config = root / "tokenizer_config.json"
    return canonical_digest(read_json(config).get("chat_template") if config.is_file() else None)


def model_digest(path: str | os.PathLike[str]) -> str:
    return tree_digest(path)


def left_padded(prompts: Sequence[str], tokenizer: Any) -> dict[str, Any]:
    """``input_ids`` and ``attention_mask`` (N × longest) of prompts that end together, as ``model.generate`` wants them."""
    import torch

    rows = [encode(p, tokenizer) for p in prompts]
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[tokenizer.pad_token_id] * (width - len(r)) + r for r in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows]),
    }
