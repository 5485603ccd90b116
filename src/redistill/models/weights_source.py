"""Where model weights come from.

``teacher.model`` and ``student.model`` are equally a local directory, a hub id, ``models:/NAME/VERSION`` of the MLflow
registry, or ``package:NAME/FILE.gguf``: weights that an installed package carries. Weights are safetensors, or GGUF
read through transformers; pickled weights are refused.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from redistill.errors import ConfigError, DataError
from redistill.io.atomic import replacing_directory
from redistill.io.digests import canonical_digest, file_digest, tree_digest
from redistill.models.loading import open_model, open_tokenizer, require_inside
from redistill.models.supported import check_supported
from redistill.models.tokenizers import TOKENIZER_FILES


def resolve(model: str, revision: str | None = None, cache: str | os.PathLike[str] = ".redistill/models") -> Path:
    """A local directory in hub layout with safetensors and a tokenizer, for the model that the user named.

    Raises:
        ConfigError: the model does not exist, or its name has an unknown form.
        DataError: the model has no tokenizer, or only pickled weights.
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
    """Digest of a model as its owner publishes it, without converting or loading it. It shows whether the model changed.

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
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise DataError(f"{path} has no tokenizer ({', '.join(TOKENIZER_FILES)}); save it there with tokenizer.save_pretrained")
    if not any(path.glob("*.safetensors")):
        raise DataError(
            f"{path} has no *.safetensors; pickled weights are not loaded; convert them with save_pretrained(safe_serialization=True)"
        )
    check_supported(path)
    require_inside(path)
    return path


def _package_file(name: str) -> Path:
    package, _, file = name.partition("/")
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"model package:{name}: package {package} is not installed; pip install {package}, or the extra that brings it")
    source = Path(next(iter(spec.submodule_search_locations))) / file
    if not source.is_file():
        raise ConfigError(f"model package:{name}: package {package} has no file {file!r}; the form is package:NAME/FILE.gguf")
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
    from transformers import GgufConfig

    folder, file = str(source.parent), source.name
    model = open_model(folder, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32)
    tokenizer = open_tokenizer(folder, gguf_file=file)
    # The GGUF header names the training run; a saved config must not contain the name of a person's folder.
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
        raise DataError(f"{uri} contains no checkpoint in hub layout (config.json and *.safetensors); name another version")
    return checked_directory(inner[0])


def _from_hub(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return checked_directory(
            Path(snapshot_download(model, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]))
        )
    except OSError as error:
        raise ConfigError(
            f"model {model!r} is not a local directory, and the hub does not return it ({str(error).splitlines()[0]})"
        ) from None
