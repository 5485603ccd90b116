"""No code of a model ever runs, and no file outside of its folder is read."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from redistill.errors import DataError
from redistill.models.checkpoints import load_model
from redistill.models.tokenizers import load_tokenizer
from redistill.models.weights_source import resolve
from tests.tiny import make_tiny_model
from tests.tiny_project import ROOT

LOADS = {"from_pretrained", "from_config", "from_model_id"}
"""Methods of transformers that read a configuration, which may name code."""
ENGINES = {"LLM", "HFLM", "pipeline"}
"""Constructors that load one by themselves."""
PICKLES = {("torch", "load"), ("pickle", "load"), ("pickle", "loads"), ("joblib", "load")}
ONE_PLACE = "src/redistill/models/loading.py"
CODE = """
from pathlib import Path
Path({marker!r}).write_text("this ran")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig):
    model_type = "of-its-own"
class Model(LlamaForCausalLM):
    config_class = Config
class Tokens(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def model(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def edit(file: Path, **changes: object) -> None:
    tree = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps({**tree, **changes}), encoding="utf-8")


def refuses_code(call: ast.Call) -> bool:
    return any(k.arg == "trust_remote_code" and isinstance(k.value, ast.Constant) and k.value.value is False for k in call.keywords)


def test_every_load_says_that_no_code_may_run() -> None:
    """One place loads with transformers. Everything else that can load a model says so itself."""
    found = 0
    for folder in ("src", "tasks", "flows", "infra"):
        for file in (ROOT / folder).rglob("*.py"):
            name = file.relative_to(ROOT).as_posix()
            nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
            # A class of ours on top of an engine is an engine too.
            ours = {n.name for n in nodes if isinstance(n, ast.ClassDef) if ENGINES & {b.id for b in n.bases if isinstance(b, ast.Name)}}
            for call in (n for n in nodes if isinstance(n, ast.Call)):
                function = call.func
                if isinstance(function, ast.Attribute) and function.attr in LOADS:
                    assert name == ONE_PLACE, f"{name}:{call.lineno} loads with transformers; use redistill.models.loading"
                    assert refuses_code(call), f"{name}:{call.lineno}"
                    found += 1
                if isinstance(function, ast.Name) and function.id in ENGINES | ours:
                    assert refuses_code(call), f"{name}:{call.lineno} does not say trust_remote_code=False"
                    found += 1
                if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                    assert (function.value.id, function.attr) not in PICKLES, f"{name}:{call.lineno} reads a pickle"
    assert found >= 5


@pytest.mark.parametrize("part", ["model", "tokenizer"])
def test_code_beside_the_weights_does_not_run_even_if_somebody_says_yes(model: Path, tmp_path: Path, part: str) -> None:
    marker = tmp_path / "ran"
    (model / "code.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    if part == "model":
        edit(model / "config.json", model_type="of-its-own", auto_map={"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"})
    else:
        edit(model / "tokenizer_config.json", tokenizer_class="Tokens", auto_map={"AutoTokenizer": [None, "code.Tokens"]})
    name = {"model": "checkpoints import load_model", "tokenizer": "tokenizers import load_tokenizer"}[part]
    code = f"from redistill.models.{name} as load\nload({str(model)!r})"
    env = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], input="y\n" * 9, capture_output=True, text=True, env=env, cwd=ROOT, check=False)
    assert not marker.exists(), "code of the model ran"
    assert "trust_remote_code" not in done.stdout, "nobody is asked"
    if part == "model":
        assert "names code of its own" in done.stderr and "redistill runs no code of a model" in done.stderr


def shard(model: Path, name: str) -> None:
    """Move the weights to another name, which an index then lists."""
    target = model / name
    target.parent.mkdir(exist_ok=True)
    (model / "model.safetensors").rename(target)
    from safetensors import safe_open

    with safe_open(target, "pt") as file:
        keys = list(file.keys())
    edit(model / "model.safetensors.index.json", metadata={}, weight_map=dict.fromkeys(keys, name))
    make_tiny_model(model.parent / "other")
    shutil.copy(model.parent / "other" / "model.safetensors", model / "unused.safetensors")


@pytest.mark.parametrize("name", ["../outside.safetensors", "{}/outside.safetensors", "inner/shard.safetensors", "pickled.bin"])
def test_an_index_may_only_name_weights_beside_it(model: Path, tmp_path: Path, name: str) -> None:
    shard(model, name.format(tmp_path))
    for load in (load_model, lambda path: resolve(str(path))):
        with pytest.raises(
            DataError, match=r"model\.safetensors\.index\.json names .*, which is not a \*\.safetensors file of this folder"
        ):
            load(model)


def test_an_index_of_files_beside_it_is_loaded(model: Path) -> None:
    shard(model, "model-00001-of-00001.safetensors")
    assert load_model(model).num_parameters() > 0


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("config.json", {"transformers_weights": "../outside.safetensors"}, "names '../outside"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../outside/tokenizer.5.0.json"]}, "names '../outside"),
        ("adapter_config.json", {"base_model_name_or_path": "../outside"}, "adapter_config.json"),
    ],
)
def test_no_configuration_leads_out_of_the_folder(model: Path, file: str, change: dict[str, str], says: str) -> None:
    edit(model / file, **change)
    for load in (load_model, load_tokenizer):
        with pytest.raises(DataError, match=says):
            load(model)
