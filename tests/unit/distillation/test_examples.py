"""The training loop on a tiny model: shift, one normalisation, weights, binding, resume (KD rules 1, 2, 8 and 12)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from redistill.distillation.losses.types import IGNORE
from redistill.distillation.methods.logit import Logit
from redistill.distillation.training.batch import Batch, collate
from redistill.distillation.training.examples import Example, Examples, Supervision, to_example
from redistill.distillation.training.trainer import DistillTrainer
from redistill.distillation.types import SoftTargets, Span, TrainingRow
from redistill.errors import DataError
from redistill.models.checkpoints import load_model
from redistill.models.tokenizers import load_tokenizer
from tests.dense import dense
from tests.tiny import examples_of, sequence, soft_of, training_rows, weights

UNCOUNTED = "transformers' Trainer counts labels[:, 1:]; ours are shifted already, so each row's token 1 is supervised but not counted"


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path):
    return load_tokenizer(tiny_model_dir)


@pytest.fixture
def model(tiny_model_dir: Path):
    return load_model(tiny_model_dir)


def trainer_for(
    model, examples, tokenizer, work: Path, *, batch: int = 8, accumulation: int = 1, temperature: float = 1.0
) -> DistillTrainer:
    """One plain SGD step of rate 1 in float32, without clipping: what the weights lose is the gradient."""
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=1,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=1.0,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        bf16=False,
        use_cpu=True,
        remove_unused_columns=False,
        label_names=["labels"],
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    return DistillTrainer(
        vocabulary=len(tokenizer),
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=lambda rows: collate(rows, tokenizer.pad_token_id, temperature).as_mapping(),
        method=Logit(temperature),
    )


def step_of(model, examples, tokenizer, work: Path, **kwargs) -> dict[str, torch.Tensor]:
    before = weights(model)
    trainer_for(model, examples, tokenizer, work, **kwargs).train()
    return {name: before[name] - value for name, value in weights(model).items()}


def gradient_by_hand(model, examples, tokenizer) -> dict[str, torch.Tensor]:
    """One sequence at a time through the dense reference, divided once by the number of supervised tokens."""
    model.train()
    model.zero_grad()
    supervised = 0
    for example in examples:
        batch = collate([example], tokenizer.pad_token_id, 1.0)
        chosen = batch.labels_BL != IGNORE
        hidden = model.get_decoder()(input_ids=batch.input_ids_BL).last_hidden_state[chosen]
        targets = batch.targets()
        expected = dense(hidden, model.lm_head.weight, targets)
        torch.autograd.backward([hidden, model.lm_head.weight], [expected.grad_hidden.float(), expected.grad_head.float()])
        supervised += int(((example.ce_weight_L > 0) | (example.kd_weight_L > 0)).sum())
    return {name: value.grad / supervised for name, value in model.named_parameters()}


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(((a[n] - b[n]).norm() / b[n].norm()).item() for n in a)


def test_hard_loss_is_the_models_own(model, tokenizer, tmp_path: Path) -> None:
    """Rule 1 against transformers: the shift, the padding and the mean over supervised tokens."""
    rows = training_rows(tokenizer, 5)
    examples = [to_example(r, None, Supervision(0.5, "completion")) for r in rows]
    batch = collate(examples, tokenizer.pad_token_id, 1.0)
    labels = torch.full_like(batch.input_ids_BL, IGNORE)
    for i, row in enumerate(rows):
        ids = sequence(row)
        labels[i, len(ids) - len(row.completion_ids) : len(ids)] = torch.tensor(row.completion_ids)
    expected = model(input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL, labels=labels).loss
    loss = trainer_for(model, examples, tokenizer, tmp_path).compute_loss(model, batch.as_mapping())
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("first", [1, 4])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(model, tokenizer, tmp_path: Path, temperature: float, first: int) -> None:
    """Rule 1 for soft targets: in place they give 0; one step off, what the dense reference says."""
    rows = training_rows(tokenizer, 3)
    softs = [soft_of(model, r, first) for r in rows]
    trainer = trainer_for(model, [], tokenizer, tmp_path, temperature=temperature)

    def batch_of(targets):
        examples = [to_example(r, s, Supervision(1.0, "all")) for r, s in zip(rows, targets, strict=True)]
        return collate(examples, tokenizer.pad_token_id, temperature)

    def off_by_one(s: SoftTargets) -> SoftTargets:
        moved = {name: np.roll(getattr(s, name), 1, axis=0) for name in ("top_ids_TK", "top_logprobs_TK", "tail_T", "entropy_T")}
        return dataclasses.replace(s, **moved, log_z={t: np.roll(z, 1) for t, z in s.log_z.items()})

    loss = trainer.compute_loss(model, batch_of(softs).as_mapping())
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-5)
    assert max(p.grad.abs().max().item() for p in model.parameters()) < 1e-5
    batch = batch_of([off_by_one(s) for s in softs])
    chosen = batch.labels_BL != IGNORE
    hidden = model.get_decoder()(input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL).last_hidden_state[chosen]
    targets = batch.targets()
    expected = dense(hidden, model.lm_head.weight, targets, temperature).total / chosen.sum()
    assert expected > 0.05
    assert trainer.compute_loss(model, batch.as_mapping()).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("supervise", ["completion", "all"])
def test_normalised_once(tiny_model_dir: Path, model, tokenizer, tmp_path: Path, supervise: str) -> None:
    """Rule 2: 4 × 2 equals 1 × 8 equals the gradient of the sum over all eight rows divided once.

    The gradient is read off the weights, w − (w − g): where a norm's w is 1 and g some 0.003, float32 leaves it 1e-5 relative.
    """
    examples = examples_of(model, tokenizer, 8, supervise=supervise)
    whole = step_of(load_model(tiny_model_dir), examples, tokenizer, tmp_path / "whole", batch=8)
    parts = step_of(load_model(tiny_model_dir), examples, tokenizer, tmp_path / "parts", batch=2, accumulation=4)
    assert largest_difference(parts, whole) < 1e-4
    assert largest_difference(whole, gradient_by_hand(model, examples, tokenizer)) < 1e-4


def test_one_token_answers_to_one_token_prompts(model, tokenizer, tmp_path: Path) -> None:
    """The smallest rows there are: one supervised token each, at the first place that can be supervised."""
    examples = [Example(np.array([5, 6]), np.array([0, 1], np.float32), np.zeros(2, np.float32), None)] * 2
    assert all(torch.isfinite(g).all() for g in step_of(model, examples, tokenizer, tmp_path, batch=2).values())


def test_weights_of_gold_and_teacher_rows(model, tokenizer) -> None:
    row = training_rows(tokenizer, 1)[0]
    soft = soft_of(model, row)
    start, size = row.completion_begin, len(row.token_ids)
    ones = np.r_[np.zeros(start), np.ones(size - start)]
    for gold in (to_example(row, None, Supervision(0.7, "completion")), to_example(row, soft, Supervision(0.0, "all"))):
        assert gold.soft is None and tuple(gold.input_ids_L) == row.token_ids
        np.testing.assert_array_equal(gold.ce_weight_L, ones)
        np.testing.assert_array_equal(gold.kd_weight_L, np.zeros(size))
    taught = to_example(row, soft, Supervision(0.7, "completion"))
    np.testing.assert_allclose(taught.ce_weight_L, 0.3 * ones, rtol=1e-6)
    np.testing.assert_allclose(taught.kd_weight_L, 0.7 * ones, rtol=1e-6)
    everything = to_example(row, soft, Supervision(0.7, "all"))
    np.testing.assert_allclose(everything.ce_weight_L, 0.3 * ones, rtol=1e-6)
    np.testing.assert_allclose(everything.kd_weight_L, np.r_[0.0, np.full(size - 1, 0.7)], rtol=1e-6)
    late = to_example(row, soft_of(model, row, first=start + 2), Supervision(0.7, "all"))
    np.testing.assert_allclose(late.kd_weight_L, np.r_[np.zeros(start + 2), np.full(size - start - 2, 0.7)], rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_text_can_be_supervised_on_the_very_tokens_that_probabilities_are(model, tokenizer, alpha: float) -> None:
    """``prompt_weight`` as the control of ``supervise: all``: the same targets, weights and count, without a probability."""
    rows = training_rows(tokenizer, 6)
    rows[0] = dataclasses.replace(rows[0], origin="gold")
    softs = {r.key: soft_of(model, r) for r in rows[1:]}
    kd = Examples(rows, softs, Supervision(alpha, "all"))
    text = Examples(rows, {}, Supervision(0.0, "all", prompt_weight=alpha))
    bare = Examples(rows, {}, Supervision(0.0, "all"))
    assert text.targets.tolist() == kd.targets.tolist() == [bare.targets[0], *(kd.lengths[1:] - 1)]
    assert (bare.targets[1:] < 0.5 * kd.targets[1:]).all(), "without it text has the completion alone"
    for ours, theirs, example in zip(text, kd, bare, strict=True):
        np.testing.assert_allclose(ours.ce_weight_L, theirs.ce_weight_L + theirs.kd_weight_L, rtol=1e-6)
        assert not ours.kd_weight_L.any() and ours.soft is None
        np.testing.assert_array_equal(ours.ce_weight_L[ours.completion_begin :], example.ce_weight_L[ours.completion_begin :])
    batches = [collate(examples, tokenizer.pad_token_id, 1.0) for examples in (text, kd)]
    assert torch.equal(batches[0].labels_BL, batches[1].labels_BL), "the count that the loss is divided by"


def test_what_is_no_completion_is_no_text_to_write(model, tokenizer) -> None:
    """A conversation: the student writes both completions, and not the turn between them."""
    spans = tuple(Span(kind, begin, begin + 2) for kind, begin in zip(("prompt", "completion") * 2, (0, 2, 4, 6), strict=True))
    row = TrainingRow("talk", 0, (5, 6, 7, 8, 9, 10, 11, 12), spans, "tokenizer", "", "teacher")
    soft = soft_of(model, row)
    text = to_example(row, None, Supervision(prompt_weight=0.25))
    assert text.ce_weight_L.tolist() == [0.0, 0.25, 1, 1, 0.25, 0.25, 1, 1] and not text.kd_weight_L.any()
    assert row.completion_ids == (7, 8, 11, 12) and text.completion_begin == 2
    taught = to_example(row, soft, Supervision(0.5))
    assert taught.kd_weight_L.tolist() == taught.ce_weight_L.tolist() == [0, 0, 0.5, 0.5, 0, 0, 0.5, 0.5]
    assert to_example(row, soft, Supervision(0.5, "all")).kd_weight_L.tolist() == [0.0, *[0.5] * 7]


def test_a_batch_survives_the_trainers_mapping(model, tokenizer) -> None:
    batch = collate(examples_of(model, tokenizer, 3), tokenizer.pad_token_id, 2.0)
    for whole in (batch, dataclasses.replace(batch, states_ND=torch.ones(4, 2))):
        mapping = whole.as_mapping()
        assert {"input_ids", "labels"} <= mapping.keys() and ("states_ND" in mapping) == (whole.states_ND is not None)
        back = Batch.of_mapping(mapping)
        assert all(getattr(back, f.name) is getattr(whole, f.name) for f in dataclasses.fields(Batch))


def test_both_on_prompts_add_up(model, tokenizer) -> None:
    row = training_rows(tokenizer, 1)[0]
    found = to_example(row, soft_of(model, row), Supervision(0.7, "all", prompt_weight=0.2))
    begin = found.completion_begin
    np.testing.assert_allclose(
        found.ce_weight_L, np.r_[0.0, np.full(begin - 1, 0.2), np.full(len(found.ce_weight_L) - begin, 0.3)], rtol=1e-6
    )
    np.testing.assert_allclose(found.kd_weight_L, np.r_[0.0, np.full(len(found.kd_weight_L) - 1, 0.7)], rtol=1e-6)


def test_batch_is_padded_and_shifted_as_one(model, tokenizer) -> None:
    examples = examples_of(model, tokenizer, 4)
    batch = collate(examples, tokenizer.pad_token_id, 1.0)
    for i, e in enumerate(examples):
        size = len(e.input_ids_L)
        assert batch.attention_mask_BL[i].sum() == size
        assert torch.all(batch.labels_BL[i, size - 1 :] == IGNORE) and torch.all(batch.input_ids_BL[i, size:] == tokenizer.pad_token_id)
        t = size - 3
        assert batch.labels_BL[i, t] == e.input_ids_L[t + 1]
        if e.soft is not None:
            place = t + 1 - e.soft.first
            assert batch.top_ids_BLK[i, t].tolist() == e.soft.top_ids_TK[place].tolist()
            np.testing.assert_allclose(batch.top_p_BLK[i, t], np.exp(e.soft.top_logprobs_TK[place]), rtol=1e-6)
    with pytest.raises(ValueError, match="needs the stored log Z_T"):
        collate([examples[1]], tokenizer.pad_token_id, 1.5)


def test_soft_targets_of_other_tokens_are_refused(model, tokenizer) -> None:
    rows = training_rows(tokenizer, 2)
    with pytest.raises(DataError, match="belong to other tokens than those of the row"):
        to_example(rows[1], soft_of(model, rows[0]), Supervision(0.5, "completion"))
    one_token = dataclasses.replace(rows[0], token_ids=(*rows[0].token_ids[:-1], rows[0].token_ids[-1] + 1))
    with pytest.raises(DataError, match="the chat template or the tokenizer is another one; run the cycle again"):
        to_example(one_token, soft_of(model, rows[0]), Supervision(0.5, "completion"))
    with pytest.raises(DataError, match="more than the limit of 8; lower intake.max_chars"):
        to_example(rows[0], None, Supervision(0.5, "completion", max_tokens=8))
