"""Whole runs of ``train`` on a tiny model: resume, LoRA, metrics, refusals (KD rule 8)."""

from __future__ import annotations

import dataclasses
import json
import re
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from redistill.distillation.methods.base import Method
from redistill.distillation.methods.logit import Logit
from redistill.distillation.params import LoraParams
from redistill.distillation.training import loop
from redistill.distillation.training.examples import Example, Supervision, to_example
from redistill.distillation.training.loop import newest_checkpoint
from redistill.distillation.training.recipe import Recipe, steps_for
from redistill.errors import DataError
from redistill.models.checkpoints import load_model
from redistill.models.tokenizers import load_tokenizer
from tests.tiny import examples_of, soft_of, training_rows, weights

RECIPE = Recipe(
    steps=6, batch_size=2, gradient_accumulation=1, learning_rate=1e-2, warmup_share=0.2, weight_decay=0.01, seed=7, save_every_steps=2
)  # fmt: skip


def train(model, tokenizer, examples, recipe, work: Path, progress=None, method: Method | None = None, watch=None):
    """The loop with the default method."""
    return loop.train(model, tokenizer, examples, recipe, work, method or Logit(), progress, watch)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path):
    return load_tokenizer(tiny_model_dir)


@pytest.mark.parametrize(
    "how",
    [{}, {"gradient_accumulation": 2}, {"precision": "bf16"}, {"lora": LoraParams(rank=2, alpha=4, dropout=0.1)}],
    ids=["plain", "accumulated", "bf16", "lora"],
)
def test_killed_and_resumed_equals_never_killed(tiny_model_dir: Path, tokenizer, tmp_path: Path, how: dict[str, Any]) -> None:
    """Rule 8: seven rows at a batch of two, so that the kill lies within a later epoch of another order."""
    examples = examples_of(load_model(tiny_model_dir), tokenizer, 7)
    recipe = dataclasses.replace(RECIPE, **how)
    seen: list[int] = []

    def killer(step: int, of: int, note: str) -> None:
        seen.append(step)
        if step == 5 and len(seen) == 5:
            raise KeyboardInterrupt

    straight = train(load_model(tiny_model_dir), tokenizer, examples, recipe, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(load_model(tiny_model_dir), tokenizer, examples, recipe, tmp_path / "killed", killer)
    half = tmp_path / "killed" / "checkpoint-5"
    half.mkdir()
    assert newest_checkpoint(tmp_path / "killed") == str(tmp_path / "killed" / "checkpoint-4")
    resumed = train(load_model(tiny_model_dir), tokenizer, examples, recipe, tmp_path / "killed", killer)
    assert seen == [1, 2, 3, 4, 5, 5, 6]
    assert not resumed.training
    start = weights(load_model(tiny_model_dir))
    for name, value in weights(resumed).items():
        assert torch.equal(value, weights(straight)[name]), name
        assert torch.equal(value, start[name]) == ("lora" in how and "_proj." not in name), name


def test_metrics_of_a_resumed_run_hold_each_step_once(tiny_model_dir: Path, tokenizer, tmp_path: Path) -> None:
    examples = examples_of(load_model(tiny_model_dir), tokenizer, 4)
    recipe = dataclasses.replace(RECIPE, steps=12, save_every_steps=8)

    def killer(step: int, of: int, note: str) -> None:
        if step == 11:
            assert re.fullmatch(r"loss [0-9.]+", note), "progress shows the last loss"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(load_model(tiny_model_dir), tokenizer, examples, recipe, tmp_path, killer)
    train(load_model(tiny_model_dir), tokenizer, examples, recipe, tmp_path)
    logs = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in logs if "kl_nats_per_token" in entry] == [10]


def test_training_learns_and_writes_its_metrics(tiny_model_dir: Path, tokenizer, tmp_path: Path) -> None:
    """A shallower teacher-to-be: after 20 steps on the soft targets of another model the KL per token has fallen."""
    rows = training_rows(tokenizer, 4)
    teacher = load_model(tiny_model_dir)
    teacher.model.embed_tokens.weight.data *= 2.0
    examples = [to_example(r, soft_of(teacher, r), Supervision(1.0, "completion")) for r in rows]
    train(load_model(tiny_model_dir), tokenizer, examples, dataclasses.replace(RECIPE, steps=20, save_every_steps=100), tmp_path)
    logs = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    kl = {entry["step"]: entry["kl_nats_per_token"] for entry in logs if "kl_nats_per_token" in entry}
    assert sorted(kl) == [10, 20] and 0.0 <= kl[20] < 0.5 * kl[10]
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_lora_is_merged_into_a_plain_model(tiny_model_dir: Path, tokenizer, tmp_path: Path) -> None:
    examples = examples_of(load_model(tiny_model_dir), tokenizer, 4)
    recipe = dataclasses.replace(RECIPE, steps=3, lora=LoraParams(rank=2, alpha=4))
    tuned = train(load_model(tiny_model_dir), tokenizer, examples, recipe, tmp_path)
    plain = load_model(tiny_model_dir)
    assert type(tuned) is type(plain) and not tuned.training
    before, after = weights(plain), weights(tuned)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj." in name}


def test_steps_for_feeds_the_same_tokens_to_every_arm() -> None:
    def rows(*lengths: int) -> list[Example]:
        return [Example(np.zeros(n, np.int64), np.zeros(n, np.float32), np.zeros(n, np.float32), None) for n in lengths]

    assert steps_for(1000, rows(10, 30), 5) == 10
    assert steps_for(1000, rows(50), 5) == 4
    assert steps_for(3, rows(50), 5) == 1


def test_what_cannot_be_trained_is_refused(tiny_model_dir: Path, tokenizer, tmp_path: Path) -> None:
    model = load_model(tiny_model_dir)
    with pytest.raises(DataError, match="no rows to train on"):
        train(model, tokenizer, [], RECIPE, tmp_path)
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
    with pytest.raises(DataError, match="LlamaForCausalLM has a bias on its output head"):
        train(model, tokenizer, examples_of(model, tokenizer, 2), RECIPE, tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_frozen_embeddings_stay_and_the_rest_learns(tiny_model_dir: Path, tokenizer, tmp_path: Path, tied: bool) -> None:
    """Also over a kill: the head's copy in the training precision is made anew from what the checkpoint holds."""
    recipe = dataclasses.replace(RECIPE, freeze_embeddings=True)

    def fresh():
        model = load_model(tiny_model_dir)
        if not tied:
            model.config.tie_word_embeddings = False
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        return model

    def killer(step: int, of: int, note: str) -> None:
        if step == 5:
            raise KeyboardInterrupt

    examples = examples_of(load_model(tiny_model_dir), tokenizer, 7)
    straight = weights(train(fresh(), tokenizer, examples, recipe, tmp_path / "straight"))
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), tokenizer, examples, recipe, tmp_path / "killed", killer)
    resumed = weights(train(fresh(), tokenizer, examples, recipe, tmp_path / "killed"))
    start = weights(fresh())
    still = {name for name in start if torch.equal(start[name], straight[name])}
    assert still == {n for n in start if "embed_tokens" in n or (tied and "lm_head" in n)}
    for name, value in straight.items():
        assert torch.equal(value, resumed[name]), name


def test_tied_embeddings_have_few_gradient_rows_in_training_and_are_given_back(tiny_model_dir: Path, tokenizer, tmp_path: Path) -> None:
    """That such a gradient is the whole one is in ``test_training.test_normalised_once``, against autograd by hand."""
    model, seen = load_model(tiny_model_dir), []
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    trained = train(
        model,
        tokenizer,
        examples_of(load_model(tiny_model_dir), tokenizer, 4),
        dataclasses.replace(RECIPE, steps=1),
        tmp_path,
        watch=lambda model, *_: seen.append(model.get_input_embeddings().sparse),
    )
    assert seen == [True] and trained.get_input_embeddings().sparse is False


@pytest.mark.parametrize("untied", ["untied", "frozen"])
def test_embeddings_of_their_own_keep_their_whole_gradient(tiny_model_dir: Path, tokenizer, tmp_path: Path, untied: str) -> None:
    model, seen = load_model(tiny_model_dir), []
    if untied == "untied":
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    recipe = dataclasses.replace(RECIPE, steps=1, freeze_embeddings=untied == "frozen")
    examples = examples_of(load_model(tiny_model_dir), tokenizer, 4)
    train(model, tokenizer, examples, recipe, tmp_path, watch=lambda model, *_: seen.append(model.get_input_embeddings().sparse))
    assert seen == [False]


@pytest.mark.parametrize(("limit", "precision", "wanted"), [(1 << 30, "bf16", "eager"), (0, "bf16", "sdpa"), (1 << 30, "fp32", "sdpa")])
def test_plain_attention_only_while_it_is_small(
    tiny_model_dir: Path, tokenizer, tmp_path: Path, limit: int, precision: str, wanted: str
) -> None:
    """And what the caller had comes back, also when training ends with an error."""
    model = load_model(tiny_model_dir)
    seen: list[str] = []

    def stop(step: int, of: int, note: str) -> None:
        seen.append(model.config._attn_implementation)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe = dataclasses.replace(RECIPE, precision=precision, plain_attention_limit_bytes=limit)
        train(model, tokenizer, examples_of(load_model(tiny_model_dir), tokenizer, 4), recipe, tmp_path, stop)
    assert seen == [wanted]
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("state", ["", "{", None])
def test_a_checkpoint_that_the_disk_cut_short_is_not_resumed(tmp_path: Path, state: str | None) -> None:
    for step, text in (("2", '{"global_step": 2}'), ("4", state)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if text is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text, encoding="utf-8")
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


def test_a_disk_that_is_full_at_a_checkpoint_is_one_clear_error(tiny_model_dir: Path, tokenizer, tmp_path: Path) -> None:
    """Files over a limit of their size fail as on a full disk, in safetensors and torch alike."""
    examples = examples_of(load_model(tiny_model_dir), tokenizer, 4)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(DataError, match="could not write a checkpoint"):
            train(load_model(tiny_model_dir), tokenizer, examples, RECIPE, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert newest_checkpoint(tmp_path) is None
    train(load_model(tiny_model_dir), tokenizer, examples, RECIPE, tmp_path)


def test_a_padded_head_learns_as_an_unpadded_one(tiny_model_dir: Path, tokenizer, tmp_path: Path) -> None:
    """Rule 7: rows behind the tokenizer's last id take no part, whatever they hold."""
    examples = examples_of(load_model(tiny_model_dir), tokenizer, 4)
    padded = load_model(tiny_model_dir)
    rows = padded.get_output_embeddings().weight.shape[0]
    padded.resize_token_embeddings(rows + 24, mean_resizing=False)
    with torch.no_grad():
        padded.get_output_embeddings().weight[rows:] = 3.0
    trained = train(padded, tokenizer, examples, dataclasses.replace(RECIPE, weight_decay=0.0), tmp_path / "padded")
    plain = train(load_model(tiny_model_dir), tokenizer, examples, dataclasses.replace(RECIPE, weight_decay=0.0), tmp_path / "plain")
    head = trained.get_output_embeddings().weight
    torch.testing.assert_close(head[:rows], plain.get_output_embeddings().weight)
    assert (head[rows:] == 3.0).all()
