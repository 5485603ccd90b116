"""How a student is born: which layers stay, and that what is left still generates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from redistill.errors import ConfigError
from redistill.models.checkpoints import load_model, save_checkpoint
from redistill.models.params import PruneParams, StudentParams
from redistill.models.pruning import build_student, chosen_layers, prune, smaller
from redistill.models.tokenizers import load_tokenizer


@pytest.fixture
def base(tiny_model_dir: Path):
    return load_model(tiny_model_dir)


def logits_of(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(3, 40)[None]).logits


@pytest.mark.parametrize(
    ("choice", "keep", "expected"),
    [
        ("early_and_last_two", 1, [29]),
        ("early_and_last_two", 2, [28, 29]),
        ("early_and_last_two", 6, [0, 1, 2, 3, 28, 29]),
        ("early_and_last_two", 30, list(range(30))),
        ("first_and_last", 1, [0]),
        ("first_and_last", 5, [0, 1, 2, 28, 29]),
        ("first_and_last", 6, [0, 1, 2, 27, 28, 29]),
        ("even", 1, [0]),
        ("even", 2, [0, 29]),
        ("even", 4, [0, 10, 19, 29]),
        ("even", 30, list(range(30))),
    ],
)
def test_choice_of_layers(choice: str, keep: int, expected: list[int]) -> None:
    assert chosen_layers(30, PruneParams(keep=keep, choice=choice)) == expected


@pytest.mark.parametrize("choice", ["early_and_last_two", "first_and_last", "even"])
def test_as_many_layers_as_asked_for(choice: str) -> None:
    for total in range(1, 40):
        for keep in range(1, total + 1):
            layers = chosen_layers(total, PruneParams(keep=keep, choice=choice))
            assert len(layers) == keep and layers == sorted(set(layers)) and 0 <= layers[0] <= layers[-1] < total


def test_listed_layers_are_taken_as_they_are() -> None:
    assert chosen_layers(8, PruneParams(listed=(0, 3, 7))) == [0, 3, 7]


@pytest.mark.parametrize("listed", [(0, 8), (3, 1), (2, 2)])
def test_impossible_lists_are_refused(listed: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"student\.layers\.listed=\[.*list each layer once, in ascending order, from 0 to 7"):
        chosen_layers(8, PruneParams(listed=listed))


def test_more_layers_than_the_base_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"student\.layers\.keep=9, but the base has only 8 layers"):
        chosen_layers(8, PruneParams(keep=9))


def test_pruned_model_is_renumbered(base) -> None:
    kept = [base.model.layers[0], base.model.layers[3]]
    student = prune(base, [0, 3])
    assert list(student.model.layers) == kept
    assert student.config.num_hidden_layers == 2
    assert [layer.self_attn.layer_idx for layer in student.model.layers] == [0, 1]


def test_cache_changes_nothing_after_pruning(base, tiny_model_dir: Path) -> None:
    student = prune(base, [0, 1, 3])
    prompt = torch.tensor([load_tokenizer(tiny_model_dir)("card lost, send a new one")["input_ids"]])
    texts = [
        student.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, min_new_tokens=12, do_sample=False, use_cache=cache
        )
        for cache in (True, False)
    ]
    assert texts[0].shape[1] == prompt.shape[1] + 12
    assert torch.equal(*texts)


def test_keeping_every_layer_is_the_base_and_fewer_is_not(base, tiny_model_dir: Path) -> None:
    before = logits_of(base)
    assert torch.equal(logits_of(prune(base, [0, 1, 2, 3])), before)
    assert not torch.allclose(logits_of(prune(base, [0, 1, 3])), before)


def test_pruned_model_survives_saving(base, tiny_model_dir: Path, tmp_path: Path) -> None:
    student = prune(load_model(tiny_model_dir), [0, 3])
    for parameter in student.parameters():
        parameter.data = parameter.data.bfloat16().float()
    save_checkpoint(prune(base, [0, 3]), load_tokenizer(tiny_model_dir), tmp_path)
    again = load_model(tmp_path)
    assert again.config.num_hidden_layers == 2
    torch.testing.assert_close(logits_of(again), logits_of(student))


def test_layer_types_follow_their_layers() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    config = Qwen2Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1,
        sliding_window=4, use_sliding_window=True, layer_types=types,
    )  # fmt: skip
    student = prune(Qwen2ForCausalLM(config).eval(), [1, 3])
    assert student.config.layer_types == ["sliding_attention", "full_attention"]
    prompt = torch.arange(3, 12)[None]
    options = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(student.generate(prompt, use_cache=True, **options), student.generate(prompt, use_cache=False, **options))


def test_every_way_to_be_born(tiny_model_dir: Path) -> None:
    copied = build_student(load_model(tiny_model_dir), StudentParams(model="m", init="copy"))
    assert torch.equal(logits_of(copied), logits_of(load_model(tiny_model_dir)))
    pruned = build_student(load_model(tiny_model_dir), StudentParams(model="m", layers=PruneParams(keep=3)))
    assert len(pruned.model.layers) == 3 and torch.equal(logits_of(pruned), logits_of(prune(load_model(tiny_model_dir), [0, 2, 3])))
    small = build_student(load_model(tiny_model_dir), StudentParams(model="m", init="config", config_overrides={"num_hidden_layers": 2}))
    assert len(small.model.layers) == 2


def test_smaller_config_is_a_new_model(base) -> None:
    original = base.config.intermediate_size
    student = smaller(base.config, {"num_hidden_layers": 2, "intermediate_size": 48}, seed=3)
    assert (student.config.num_hidden_layers, student.config.intermediate_size) == (2, 48)
    assert (base.config.num_hidden_layers, base.config.intermediate_size) == (4, original)
    assert student.dtype == torch.float32 and student.num_parameters() < base.num_parameters()
    assert torch.isfinite(logits_of(student.eval())).all()
    same, other = (smaller(base.config, {"num_hidden_layers": 2, "intermediate_size": 48}, seed) for seed in (3, 4))
    assert torch.equal(same.lm_head.weight, student.lm_head.weight) and not torch.equal(other.lm_head.weight, student.lm_head.weight)


def test_smaller_config_refuses_what_the_base_has_not(base) -> None:
    with pytest.raises(ConfigError, match=r"student\.config_overrides\.num_layers: LlamaConfig has no such field"):
        smaller(base.config, {"num_layers": 2}, seed=1)
    with pytest.raises(ConfigError, match=r"num_hidden_layers=5, but the base has only 4 layers"):
        smaller(base.config, {"num_hidden_layers": 5}, seed=1)
