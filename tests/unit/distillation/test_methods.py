"""Every method on a tiny model: the loss it says it is, and batches that stay what the rules ask for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from redistill.distillation.losses.types import IGNORE
from redistill.distillation.methods.logit import Logit
from redistill.distillation.methods.on_policy import OnPolicy
from redistill.distillation.methods.online import Online
from redistill.distillation.training.batch import collate
from redistill.distillation.training.examples import Examples, Supervision, to_example
from redistill.distillation.training.loop import train
from redistill.distillation.training.recipe import Recipe
from redistill.distillation.training.teacher_states import states_of
from redistill.distillation.types import Divergence
from redistill.errors import DataError
from redistill.models.checkpoints import load_model
from redistill.models.lm_head import check_supported_head
from redistill.models.tokenizers import load_tokenizer
from tests.tiny import make_tiny_model, method_of, needs_weights, soft_of, training_rows

RECIPE = Recipe(40, 8, 1, 1e-2, 0.1, 0.0, 7, 10**6)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path):
    return load_tokenizer(tiny_model_dir)


@pytest.fixture(scope="module")
def teacher(tiny_model_dir: Path):
    return load_model(tiny_model_dir)


@pytest.fixture
def student(tmp_path: Path):
    return load_model(make_tiny_model(tmp_path / "student", layers=2, seed=5))


def batch_of(tokenizer, *, alpha: float, supervise: str = "completion", gold: int = 0, count: int = 5):
    rows = [dataclasses.replace(r, origin="gold") if i < gold else r for i, r in enumerate(training_rows(tokenizer, count))]
    examples = [to_example(r, None, Supervision(alpha, supervise, teacher_in_memory=True)) for r in rows]
    return collate(examples, tokenizer.pad_token_id, 1.0)


def loss_of(method, student, inputs):
    hidden = student.get_decoder()(input_ids=inputs.input_ids_BL, attention_mask=inputs.attention_mask_BL).last_hidden_state
    return method.loss(hidden, student.get_output_embeddings().weight, inputs)


def by_hand(teacher, student, inputs, divergence: Divergence, beta: float, temperature: float) -> torch.Tensor:
    """From whole logits in float64, one token at a time."""
    with torch.no_grad():
        theirs = teacher(input_ids=inputs.input_ids_BL, attention_mask=inputs.attention_mask_BL).logits.double()
    ours = student(input_ids=inputs.input_ids_BL, attention_mask=inputs.attention_mask_BL).logits.double()
    log_p, log_q = (torch.log_softmax(x / temperature, -1) for x in (theirs, ours))
    p, q = log_p.exp(), log_q.exp()
    log_m = (beta * p + (1 - beta) * q).log()
    of_p, of_q = (p * (log_p - log_m)).sum(-1), (q * (log_q - log_m)).sum(-1)
    value = {
        "forward_kl": (p * (log_p - log_q)).sum(-1),
        "reverse_kl": (q * (log_q - log_p)).sum(-1),
        "jsd": beta * of_p + (1 - beta) * of_q,
        "skew_kl": of_p,
        "skew_reverse_kl": (q * (log_q - ((1 - beta) * p + beta * q).log())).sum(-1),
    }[divergence]
    labels = inputs.labels_BL.clamp_min(0)
    nll = -torch.log_softmax(ours, -1).gather(-1, labels[..., None])[..., 0]
    return (inputs.kd_BL * value * temperature**2 + inputs.ce_BL * nll * (inputs.labels_BL != IGNORE)).sum()


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(("supervise", "gold"), [("completion", 0), ("all", 2), ("all", 5)])
def test_online_is_the_dense_divergence_of_the_rows_it_is_told(
    teacher, student, tokenizer, divergence: Divergence, temperature: float, supervise: str, gold: int
) -> None:
    inputs = batch_of(tokenizer, alpha=0.7, supervise=supervise, gold=gold)
    method = Online(teacher, len(tokenizer), divergence, 0.3, temperature)
    sums = loss_of(method, student, inputs)
    expected = by_hand(teacher, student, inputs, divergence, 0.3, temperature)
    torch.testing.assert_close(sums.total.double(), expected, rtol=1e-4, atol=1e-4)
    parameters = [p for p in student.parameters() if p.requires_grad]
    mine = torch.autograd.grad(sums.total, parameters)
    for a, b in zip(mine, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=2e-3, atol=2e-3 * float(b.abs().max()))
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize(("supervise", "gold"), [("completion", 0), ("all", 2), ("all", 9)])
def test_a_teacher_asked_once_says_what_it_says_for_every_batch(teacher, student, tokenizer, supervise: str, gold: int) -> None:
    """Same numbers from its states alone; batches of asking and of training are not the same ones."""
    rows = [dataclasses.replace(r, origin="gold") if i < gold else r for i, r in enumerate(training_rows(tokenizer, 9))]
    examples = Examples(rows, {}, Supervision(0.7, supervise, teacher_in_memory=True))
    head, seen = teacher.get_output_embeddings().weight, []
    told = states_of(teacher.get_decoder(), head, examples, 1 << 20, seen.append, batch_tokens=64)
    assert told is not None and len(told) == 9 and told.lengths.tolist() == examples.lengths.tolist()
    assert seen == sorted(seen) and seen[-1:] == [9 - gold][: 9 - gold] and (len(seen) > 1 or gold == 9)
    method = Online(teacher, len(tokenizer), "jsd", 0.3, 2.0)
    for chosen in ([0, 5, 8], [3], list(range(9))):
        with_states, without = (collate([e[i] for i in chosen], tokenizer.pad_token_id, 1.0) for e in (told, examples))
        torch.testing.assert_close(
            loss_of(method, student, with_states).total, loss_of(method, student, without).total, rtol=1e-5, atol=1e-5
        )
    assert [e.states_ND.shape[0] for e in told[2:4]] == [int((e.kd_weight_L > 0).sum()) for e in examples[2:4]]


def test_only_the_head_of_a_teacher_that_was_asked_once_stays(teacher, student, tokenizer) -> None:
    examples = Examples(training_rows(tokenizer, 5), {}, Supervision(0.7, "all", teacher_in_memory=True))
    method = Online(teacher, len(tokenizer), states_bytes=1 << 20)
    told = method.prepare(examples, 1.5)
    assert told is not examples and method._decoder is None
    assert float(loss_of(method, student, collate(told, tokenizer.pad_token_id, 1.0)).kl_sum) > 0


def test_a_teacher_that_gives_no_numbers_is_refused_before_training(tokenizer, tiny_model_dir: Path) -> None:
    broken = load_model(tiny_model_dir)
    examples = Examples(training_rows(tokenizer, 5), {}, Supervision(0.7, "all", teacher_in_memory=True))
    with torch.no_grad():
        broken.get_input_embeddings().weight[int(examples[3].input_ids_L[-1])] = float("nan")
    with pytest.raises(DataError, match="the teacher returned NaN or infinite states for a row of"):
        Online(broken, len(tokenizer), states_bytes=1 << 20).prepare(examples, passes=2)


@pytest.mark.parametrize(("passes", "limit"), [(1.0, 1 << 20), (3.0, 100), (3.0, 0)])
def test_a_teacher_is_asked_for_every_batch_where_once_saves_nothing_or_does_not_fit(
    teacher, student, tokenizer, passes: float, limit: int
) -> None:
    examples = Examples(training_rows(tokenizer, 5), {}, Supervision(0.7, "all", teacher_in_memory=True))
    method = Online(teacher, len(tokenizer), states_bytes=limit)
    assert method.prepare(examples, passes) is examples
    assert float(loss_of(method, student, collate(examples, tokenizer.pad_token_id, 1.0)).kl_sum) > 0


def test_a_student_that_is_its_teacher_learns_nothing_online(teacher, tokenizer, tiny_model_dir: Path) -> None:
    sums = loss_of(
        Online(teacher, len(tokenizer), "reverse_kl"), load_model(tiny_model_dir), batch_of(tokenizer, alpha=1.0, supervise="all")
    )
    assert abs(float(sums.kl_sum)) < 1e-3 and abs(sums.total.item()) < 1e-3


def test_sequence_level_leaves_probabilities_alone(teacher, student, tokenizer) -> None:
    rows = training_rows(tokenizer, 4)
    examples = [to_example(r, soft_of(teacher, r), Supervision(0.5, "completion")) for r in rows]
    inputs = collate(examples, tokenizer.pad_token_id, 1.0)
    text = method_of("sequence", tokenizer, None, seed=7)
    sums = loss_of(text, student, inputs)
    ours = student(input_ids=inputs.input_ids_BL, attention_mask=inputs.attention_mask_BL).logits
    expected = torch.nn.functional.cross_entropy(ours.flatten(0, 1), inputs.labels_BL.flatten(), ignore_index=IGNORE, reduction="sum")
    torch.testing.assert_close(sums.total, 0.5 * expected, rtol=1e-4, atol=1e-4)


def on_policy(teacher, tokenizer, fraction: float = 1.0, seed: int = 7) -> OnPolicy:
    return method_of("on_policy", tokenizer, teacher, seed=seed, on_policy_fraction=fraction, max_tokens=6)  # type: ignore[return-value]


@pytest.mark.parametrize("supervise", ["completion", "all"])
def test_own_completions_take_the_place_of_the_teachers(teacher, student, tokenizer, supervise: str) -> None:
    inputs = batch_of(tokenizer, alpha=0.5, supervise=supervise, gold=2)
    changed = on_policy(teacher, tokenizer).batch(student, inputs, step=3)
    for row in range(5):
        begin = int(inputs.completion_begins_B[row])
        size = int(changed.attention_mask_BL[row].sum())
        assert changed.input_ids_BL[row, :begin].equal(inputs.input_ids_BL[row, :begin])
        if row < 2:
            assert changed.ce_BL[row, : inputs.ce_BL.shape[1]].equal(inputs.ce_BL[row]), "gold rows stay"
            continue
        assert begin < size <= begin + 6 and not changed.ce_BL[row].any()
        own = slice(begin - 1, size - 1)
        assert changed.labels_BL[row, own].equal(changed.input_ids_BL[row, begin:size]), "position t learns token t + 1"
        assert (changed.kd_BL[row, own] == 1.0).all() and not changed.kd_BL[row, size - 1 :].any()
        prompt = changed.kd_BL[row, : begin - 1]
        assert (prompt == 0.5).all() if supervise == "all" else not prompt.any()
        assert ((changed.labels_BL[row] != IGNORE) == (changed.kd_BL[row] > 0)).all()
        ends = (changed.input_ids_BL[row, begin : size - 1] == tokenizer.eos_token_id).any()
        assert not ends, "nothing follows the end token"
    sums = loss_of(on_policy(teacher, tokenizer), student, changed)
    expected = by_hand(teacher, student, changed, "forward_kl", 0.5, 1.0)
    torch.testing.assert_close(sums.total.double(), expected, rtol=1e-4, atol=1e-4)


def test_what_is_drawn_follows_from_seed_step_and_rows_alone(teacher, student, tokenizer) -> None:
    inputs = batch_of(tokenizer, alpha=1.0)
    drawn = on_policy(teacher, tokenizer).batch(student, inputs, step=3)
    before = torch.random.get_rng_state()
    torch.manual_seed(99)
    again = on_policy(teacher, tokenizer).batch(student, inputs, step=3)
    assert again.input_ids_BL.equal(drawn.input_ids_BL), "whatever the state of the global generator"
    torch.random.set_rng_state(before)
    others = [
        on_policy(teacher, tokenizer, seed=8).batch(student, inputs, 3),
        on_policy(teacher, tokenizer).batch(student, inputs, 4),
    ]
    assert all(o.input_ids_BL.shape != drawn.input_ids_BL.shape or not o.input_ids_BL.equal(drawn.input_ids_BL) for o in others)
    assert on_policy(teacher, tokenizer, 0.0).batch(student, inputs, 3).input_ids_BL.equal(inputs.input_ids_BL)


@pytest.mark.parametrize("name", ["logit", "sequence", "online", "on_policy"])
def test_every_method_teaches(teacher, student, tokenizer, tmp_path: Path, name: str) -> None:
    """The mean KL to the teacher on the rows' tokens falls by half at least; for text alone, its cross-entropy."""
    rows = training_rows(tokenizer, 24)
    soft = {r.key: soft_of(teacher, r, k=30) for r in rows}
    alpha = 0.0 if name == "sequence" else 1.0
    examples = Examples(rows, soft if name == "logit" else {}, Supervision(alpha, "all", teacher_in_memory=needs_weights(name)))
    # Short samples: a student of random weights never ends one by itself.
    method = method_of(name, tokenizer, teacher, **({"max_tokens": 8} if name == "on_policy" else {}))

    def measured() -> float:
        inputs = batch_of(tokenizer, alpha=1.0, supervise="completion" if name == "sequence" else "all", count=24)
        if name == "sequence":
            inputs = dataclasses.replace(inputs, ce_BL=inputs.kd_BL, kd_BL=torch.zeros_like(inputs.kd_BL))
        sums = loss_of(Online(teacher, len(tokenizer)), student, inputs)
        return float(sums.ce_sum if name == "sequence" else sums.kl_sum)

    before = measured()
    student = train(student, tokenizer, examples, dataclasses.replace(RECIPE, steps=60), tmp_path / "work", method=method)
    assert measured() < 0.5 * before


@pytest.mark.parametrize("name", ["sequence", "online"])
def test_prompts_are_learnt_as_text_where_an_arm_asks_for_it(teacher, tokenizer, tmp_path: Path, name: str) -> None:
    """The prompts' own cross-entropy, in nats a token, with ``prompt_weight`` and without; the completions are learnt either way."""
    rows = training_rows(tokenizer, 12)
    alpha = 0.0 if name == "sequence" else 0.5
    soft = {r.key: soft_of(teacher, r) for r in rows} if name == "logit" else {}
    whole = collate([to_example(r, None, Supervision(0.0, "completion", prompt_weight=1.0)) for r in rows], tokenizer.pad_token_id, 1.0)
    of_prompt = torch.arange(whole.labels_BL.shape[1]) < whole.completion_begins_B[:, None] - 1

    def losses(prompt_weight: float) -> tuple[float, float]:
        model = load_model(make_tiny_model(tmp_path / "student", layers=2, seed=5))
        examples = Examples(
            rows, soft, Supervision(alpha, "completion", teacher_in_memory=needs_weights(name), prompt_weight=prompt_weight)
        )
        method = method_of(name, tokenizer, teacher)
        model = train(model, tokenizer, examples, dataclasses.replace(RECIPE, steps=25), tmp_path / f"work-{prompt_weight}", method=method)
        with torch.no_grad():
            logits = model(input_ids=whole.input_ids_BL, attention_mask=whole.attention_mask_BL).logits
        nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), whole.labels_BL, reduction="none", ignore_index=IGNORE)
        counted = whole.labels_BL != IGNORE
        return float(nll[counted & of_prompt].mean()), float(nll[counted & ~of_prompt].mean())

    (prompt, completion), (prompt_without, completion_without) = losses(0.5), losses(0.0)
    assert prompt < 0.7 * prompt_without
    assert max(completion, completion_without) < 0.75 * prompt_without


@pytest.mark.parametrize("name", ["online", "on_policy"])
def test_resumed_training_asks_and_draws_what_the_killed_one_did(teacher, tokenizer, tmp_path: Path, name: str) -> None:
    """Rule 8: a run that stops at step 6 and goes on ends with the weights of one that never stopped."""
    rows = training_rows(tokenizer, 12)
    recipe = dataclasses.replace(RECIPE, steps=8, batch_size=4, save_every_steps=3)

    def trained(work: Path, stop: int | None = None):
        model = load_model(make_tiny_model(tmp_path / "student", layers=2, seed=5))
        examples = Examples(rows, {}, Supervision(0.5, "completion", teacher_in_memory=True))

        def progress(step: int, of: int, note: str) -> None:
            if step == stop:
                raise KeyboardInterrupt

        method = on_policy(teacher, tokenizer, 0.6) if name == "on_policy" else Online(teacher, len(tokenizer), states_bytes=1 << 20)
        prepared = method.prepare(examples, passes=8 * 4 / 12)
        assert (prepared is examples) == (name == "on_policy")
        return train(model, tokenizer, prepared, recipe, work, method, progress)

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", stop=7)
    resumed = trained(tmp_path / "killed")
    for (name, a), (_, b) in zip(whole.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_temperature_without_its_log_z_is_refused_before_training(teacher, tokenizer) -> None:
    rows = training_rows(tokenizer, 3)
    soft = {r.key: soft_of(teacher, r) for r in rows}
    assert len(Examples(rows, soft, Supervision(0.5, "all", temperature=2.0)).lengths) == 3
    with pytest.raises(DataError, match=r"temperature 3 needs log Z_T.*score.temperatures"):
        Examples(rows, soft, Supervision(0.5, "all", temperature=3.0))


def test_a_row_without_a_token_to_learn_from_is_refused_before_training(tokenizer) -> None:
    rows = training_rows(tokenizer, 3)
    begin = rows[1].spans[0].end
    rows[1] = dataclasses.replace(rows[1], token_ids=rows[1].token_ids[:begin], spans=rows[1].spans[:1])
    with pytest.raises(DataError, match=f"row {rows[1].prompt_id[:12]}/0 has no token to learn from"):
        Examples(rows, {}, Supervision(0.0, "completion"))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_broken_weights_are_refused_and_not_called_an_odd_head(tmp_path: Path, broken: float) -> None:
    model = load_model(make_tiny_model(tmp_path / "broken", seed=3))
    with torch.no_grad():
        model.get_output_embeddings().weight[70, 0] = broken
    with pytest.raises(DataError, match="has NaN or infinite weights"):
        check_supported_head(model)


@pytest.mark.parametrize("odd", ["cohere", "gemma2", "granite", "bias"])
def test_models_whose_logits_are_more_than_a_head_are_refused(odd: str) -> None:
    """``head(hidden)`` is not their logits, so a loss on it would teach something else."""
    from transformers import (
        CohereConfig,
        CohereForCausalLM,
        Gemma2Config,
        Gemma2ForCausalLM,
        GraniteConfig,
        GraniteForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
    )

    small = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    small |= {"num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    torch.manual_seed(0)
    model = {
        "cohere": lambda: CohereForCausalLM(CohereConfig(**small, logit_scale=0.0625)),
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**small, head_dim=16, final_logit_softcapping=0.1)),
        "granite": lambda: GraniteForCausalLM(GraniteConfig(**small, logits_scaling=8.0)),
        "bias": lambda: LlamaForCausalLM(LlamaConfig(**small)),
    }[odd]()
    check_supported_head(LlamaForCausalLM(LlamaConfig(**small)))
    if odd == "bias":
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(64))
    with pytest.raises(DataError, match="bias on its output head" if odd == "bias" else "scales or caps its logits"):
        check_supported_head(model)


def test_a_batch_without_targets_is_a_zero_on_the_graph(teacher, student, tokenizer) -> None:
    """Rule 6, for every method."""
    inputs = batch_of(tokenizer, alpha=0.5)
    inputs.labels_BL[:], inputs.kd_BL[:], inputs.ce_BL[:] = IGNORE, 0.0, 0.0
    for name in ("logit", "sequence", "online", "on_policy"):
        sums = loss_of(method_of(name, tokenizer, teacher, seed=7), student, inputs)
        assert sums.total.item() == 0.0 and sums.total.requires_grad
    assert not np.isnan(float(sums.kl_sum))


@pytest.mark.parametrize(("made", "used"), [(1.0, 2.0), (2.0, 1.0)])
def test_a_batch_that_was_made_at_another_temperature_is_refused(teacher, student, tokenizer, made: float, used: float) -> None:
    rows = training_rows(tokenizer, 3)
    examples = [to_example(r, soft_of(teacher, r), Supervision(1.0, "completion")) for r in rows]
    inputs = collate(examples, tokenizer.pad_token_id, made)
    with pytest.raises(ValueError, match=f"at temperature {made:g}, the loss is at {used:g}"):
        loss_of(Logit(used), student, inputs)
    assert float(loss_of(Logit(made), student, inputs).kl_sum) > 0


def test_training_makes_its_batches_at_the_temperature_of_its_method(teacher, student, tokenizer, tmp_path: Path) -> None:
    """Nothing else says a temperature: at 2 the mean KL of the first step is the one worked out from whole logits at 2."""
    rows = training_rows(tokenizer, 4)
    examples = [to_example(r, soft_of(teacher, r, k=400), Supervision(1.0, "completion")) for r in rows]
    inputs = batch_of(tokenizer, alpha=1.0, count=4)
    expected = by_hand(teacher, student, inputs, "forward_kl", 0.5, 2.0) / 4.0 / float((inputs.kd_BL > 0).sum())
    recipe = dataclasses.replace(RECIPE, steps=10, batch_size=4, learning_rate=1e-12, weight_decay=0.0, precision="fp32")
    train(student, tokenizer, examples, recipe, tmp_path / "work", method=Logit(2.0))
    logged = [json.loads(line) for line in (tmp_path / "work" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert logged[0]["kl_nats_per_token"] == pytest.approx(float(expected.detach()), rel=1e-3)
