"""Copies of weights in bfloat16: what a loop with autocast and float32 weights alone would train."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from redistill.checkpoints import load_model, load_tokenizer
from redistill.examples import collate
from redistill.losses import IGNORE
from redistill.methods.logit import Logit
from redistill.training import Recipe, lengths_of, train
from redistill.training_order import TrainingOrder
from redistill.working_weights import WorkingWeights
from tests.tiny import examples_of, weights

RECIPE = Recipe(
    steps=6, batch_size=2, gradient_accumulation=1, learning_rate=1e-2, warmup_share=0.2, weight_decay=0.01, seed=7,
    save_every_steps=100, freeze_embeddings=True, precision="bf16",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path):
    return load_tokenizer(tiny_model_dir)


def trained_by_autocast(model, tokenizer, examples, recipe: Recipe):
    """The same recipe in a plain loop: autocast, clipping to 1, fused AdamW, weights in float32."""
    model.set_attn_implementation("eager")
    model.train().get_input_embeddings().weight.requires_grad_(False)
    groups = [[p for n, p in model.named_parameters() if p.requires_grad and ("norm" in n) == plain] for plain in (False, True)]
    optimizer = torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": recipe.weight_decay}, {"params": groups[1], "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        fused=True,
    )
    rate = get_cosine_schedule_with_warmup(optimizer, round(recipe.warmup_share * recipe.steps), recipe.steps)
    whole = recipe.batch_size * recipe.gradient_accumulation
    order = list(TrainingOrder(lengths_of(examples).tolist(), whole, recipe.steps, recipe.seed))
    head = model.get_output_embeddings().weight.detach().bfloat16()
    for step in range(recipe.steps):
        rows = [{"example": examples[i]} for i in order[step * whole : (step + 1) * whole]]
        parts = [rows[i : i + recipe.batch_size] for i in range(0, whole, recipe.batch_size)]
        batches = [collate(part, tokenizer.pad_token_id, 1.0) for part in parts]
        count = sum(int((b["labels"] != IGNORE).sum()) for b in batches)
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16):
                hidden = model.get_decoder()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            Logit().loss(hidden.bfloat16(), head, {**batch, "kd": batch["kd"] / count, "ce": batch["ce"] / count}).total.backward()
        torch.nn.utils.clip_grad_norm_([*groups[0], *groups[1]], 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("accumulation", [1, 2])
def test_trains_what_autocast_trains(tiny_model_dir: Path, tokenizer, tmp_path: Path, accumulation: int) -> None:
    examples = examples_of(load_model(tiny_model_dir), tokenizer, 7)
    recipe = dataclasses.replace(RECIPE, gradient_accumulation=accumulation)
    # To the bit: a weight that differs in its last bit may round to another copy.
    expected = weights(trained_by_autocast(load_model(tiny_model_dir), tokenizer, examples, recipe))
    ours = weights(train(load_model(tiny_model_dir), tokenizer, examples, recipe, tmp_path))
    for name, value in ours.items():
        assert value.dtype == torch.float32 and torch.equal(value, expected[name]), name


def test_copies_are_of_linear_weights_and_follow_them(tiny_model_dir: Path) -> None:
    """Norms stay in float32; a frozen weight has a copy that is frozen; ``refresh`` brings in what a checkpoint wrote."""
    decoder = load_model(tiny_model_dir).get_decoder()
    frozen = decoder.layers[0].mlp.up_proj.weight.requires_grad_(False)
    working = WorkingWeights(decoder)
    pairs = working.pairs()
    names = {name for name, p in decoder.named_parameters() if p in pairs}
    assert names == {n for n, _ in decoder.named_parameters() if "_proj." in n} - {"layers.0.mlp.up_proj.weight"}
    ids = torch.arange(1, 9)[None]

    def same() -> bool:
        # Autocast keeps its casts for as long as its context lasts.
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return torch.equal(working.forward(input_ids=ids).last_hidden_state, decoder(input_ids=ids).last_hidden_state)

    assert same()
    with torch.no_grad():
        for p in (frozen, *pairs):
            p.mul_(1.5)
    assert not same()
    working.refresh()
    assert same()
