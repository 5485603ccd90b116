"""The teacher reads a longer prompt than the student: probabilities of the completion, at the student's places (KD rule 11)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from redistill.data.params import DataParams
from redistill.data.teacher_prompt import TeacherPrompt
from redistill.data.templates import render
from redistill.data.types import Message, Prompt
from redistill.distillation.methods.logit import Logit
from redistill.distillation.soft_targets.for_student import for_student
from redistill.distillation.soft_targets.from_teacher import from_listed
from redistill.distillation.soft_targets.scoring import Sequenced, score_sequences
from redistill.distillation.soft_targets.shift import shifts_of_rows
from redistill.distillation.training.batch import collate
from redistill.distillation.training.examples import Examples, Supervision
from redistill.distillation.training.rows import RowMaker
from redistill.distillation.types import SoftTargets, TrainingRow, sequence_digest
from redistill.errors import DataError
from redistill.models.checkpoints import load_model
from redistill.models.tokenizers import encode, load_tokenizer, tokenizer_digest
from redistill.teacher.types import TeacherCompletion
from tests.tiny import make_tiny_model

DATA = DataParams(name="x", source="a.jsonl", task="generation")
SHOWN = TeacherPrompt("You sort a bank's mail.", (Prompt.of((Message("user", "no card"),), "e", "all", "card", "a"),))
TEMPERATURE = 2.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    folder = tmp_path_factory.mktemp("prompts")
    teacher, student = (load_model(make_tiny_model(folder / str(seed), seed=seed)) for seed in (0, 1))
    return teacher, student, load_tokenizer(folder / "0")


@pytest.fixture(scope="module")
def rows(models: tuple[Any, Any, Any]) -> list[TrainingRow]:
    """Rows of completions with ids, whose teacher read a system text and an example first."""
    tokenizer = models[2]
    prompts = [Prompt.of((Message("user", f"my card {'is gone ' * n}"),), str(n), "all", None, "a") for n in range(5)]
    kept = [(p, TeacherCompletion(p.id, 0, "card fee", None, tuple(encode(" card fee", tokenizer)), "stop", "t")) for p in prompts]
    read = [encode(render(p, DATA, tokenizer, SHOWN), tokenizer) for p in prompts]
    return RowMaker(DATA, tokenizer).completed(kept, tokenizer_digest(tokenizer), (), read)


def scored(teacher: Any, rows: list[TrainingRow], k: int) -> dict[Any, SoftTargets]:
    sequences = [Sequenced(r.key, r.teacher_token_ids, len(r.teacher_prompt_ids)) for r in rows]
    by_key = {r.key: r for r in rows}
    return {t.key: for_student(t, by_key[t.key]) for t in score_sequences(teacher, sequences, k, (1.0, TEMPERATURE), 512, 400)}


def dense_kl(teacher: Any, student: Any, row: TrainingRow, temperature: float) -> float:
    """Σ over the completion of T² KL(teacher after its long prompt ‖ student after its short one), in float64 from the definition."""
    n = len(row.completion_ids)
    with torch.no_grad():
        z_p = teacher(torch.tensor([[*row.teacher_prompt_ids, *row.completion_ids]])).logits[0, -n - 1 : -1, :400]
        z_q = student(torch.tensor([row.token_ids])).logits[0, -n - 1 : -1, :400]
    p, q = ((z.double() / temperature).log_softmax(-1) for z in (z_p, z_q))
    return float((temperature**2 * p.exp() * (p - q)).sum())


def test_rows_keep_both_prompts_and_one_completion(models: tuple[Any, Any, Any], rows: list[TrainingRow]) -> None:
    tokenizer = models[2]
    for row in rows:
        short, long = tokenizer.decode(row.token_ids[: row.completion_begin]), tokenizer.decode(row.teacher_prompt_ids)
        assert "bank's mail" not in short and long == f"You sort a bank's mail.\n\nno card\n=> card\n\n{short}"
        assert row.teacher_token_ids == (*row.teacher_prompt_ids, *row.completion_ids)
        assert row.teacher_token_ids[row.completion_begin + row.teacher_shift :] == row.completion_ids
    plain = RowMaker(DATA, tokenizer).gold([SHOWN.examples[0]])[0]
    assert (plain.teacher_token_ids, plain.teacher_shift) == (plain.token_ids, 0)


def test_another_tokenizer_keeps_no_ids_of_the_teacher(models: tuple[Any, Any, Any]) -> None:
    asked = SHOWN.examples[0]
    completion = TeacherCompletion(asked.id, 0, "card", None, (1, 2), "stop", "t")
    assert RowMaker(DATA, models[2]).completed([(asked, completion)], "another", (), [[1, 2, 3]])[0].teacher_prompt_ids == ()


@pytest.mark.parametrize("temperature", [1.0, TEMPERATURE])
def test_the_loss_is_the_dense_kl_of_long_and_short_prompt(
    models: tuple[Any, Any, Any], rows: list[TrainingRow], temperature: float
) -> None:
    teacher, student, tokenizer = models
    examples = Examples(rows, scored(teacher, rows, 400), Supervision(alpha=1.0, temperature=temperature))
    batch = collate(list(examples), tokenizer.pad_token_id, temperature)
    with torch.no_grad():
        hidden = student.get_decoder()(input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL).last_hidden_state
        sums = Logit(temperature).loss(hidden, student.get_output_embeddings().weight[:400], batch)
    expected = sum(dense_kl(teacher, student, row, temperature) for row in rows)
    assert float(sums.total) == pytest.approx(expected, rel=1e-4)
    assert int((batch.kd_BL > 0).sum()) == sum(len(r.completion_ids) for r in rows), "no token of a prompt is compared"


def test_a_short_list_has_the_teachers_probabilities_at_each_place(models: tuple[Any, Any, Any], rows: list[TrainingRow]) -> None:
    teacher = models[0]
    for row, targets in zip(rows, (scored(teacher, rows, 8)[r.key] for r in rows), strict=True):
        with torch.no_grad():
            logits = teacher(torch.tensor([row.teacher_token_ids])).logits[0].double()
        p = logits[len(row.teacher_prompt_ids) - 1 : -1, :400].softmax(-1)
        assert (targets.first, targets.end) == (row.completion_begin, len(row.token_ids))
        assert targets.sequence == sequence_digest(row.token_ids)
        np.testing.assert_allclose(np.exp(targets.top_logprobs_TK), p.topk(8, -1).values, rtol=1e-4)
        np.testing.assert_allclose(targets.log_z[TEMPERATURE], torch.logsumexp(p.log() / TEMPERATURE, -1), rtol=1e-4)


def test_captured_probabilities_move_to_the_students_places(rows: list[TrainingRow]) -> None:
    """An engine lists probabilities of its completion only; they begin where its own prompt ends."""
    row = rows[2]
    n = len(row.completion_ids)
    captured = from_listed(
        [[i, 7] for i in row.completion_ids], [[-0.5, -2.0]] * n, row.teacher_token_ids, len(row.teacher_prompt_ids), 2, row.key
    )
    moved = for_student(captured, row)
    assert (moved.first, moved.end, moved.sequence) == (row.completion_begin, len(row.token_ids), sequence_digest(row.token_ids))
    np.testing.assert_array_equal(moved.top_ids_TK, captured.top_ids_TK)
    assert Examples([row], {row.key: moved}, Supervision(alpha=0.5))[0].kd_weight_L.tolist() == [0.0] * row.completion_begin + [0.5] * n


def test_other_completion_ids_are_refused(models: tuple[Any, Any, Any], rows: list[TrainingRow]) -> None:
    row = rows[0]
    [targets] = score_sequences(models[0], [Sequenced(row.key, row.teacher_token_ids)], 4, (), 512, 400)
    assert for_student(targets, row).first == row.completion_begin, "scored from the first token on, the prompt's part is left out"
    changed = dataclasses.replace(row, token_ids=(*row.token_ids[:-2], 5, row.token_ids[-1]))
    with pytest.raises(
        DataError, match="belong to other tokens than the teacher's prompt with the row's completion; run the stages generate"
    ):
        for_student(targets, changed)
    without = dataclasses.replace(row, teacher_prompt_ids=())
    assert for_student(targets, without) is targets, "checked with the row's own tokens when it becomes an example"


def test_supervision_of_prompt_tokens_is_refused(models: tuple[Any, Any, Any], rows: list[TrainingRow]) -> None:
    with pytest.raises(DataError, match="supervise is all, but the teacher read a prompt of its own before row"):
        Examples(rows, scored(models[0], rows, 4), Supervision(alpha=0.5, tokens="all"))


def test_a_new_teacher_is_compared_after_the_same_long_prompt(models: tuple[Any, Any, Any], rows: list[TrainingRow]) -> None:
    teacher, other, _ = models
    old = scored(teacher, rows, 400)
    assert all(abs(nats) < 1e-4 for _, nats in shifts_of_rows(teacher, rows, old, 512, 400))
    for row, nats in shifts_of_rows(other, rows, old, 512, 400):
        n = len(row.completion_ids)
        with torch.no_grad():
            p, q = (
                m(torch.tensor([row.teacher_token_ids])).logits[0, -n - 1 : -1, :400].double().log_softmax(-1) for m in (teacher, other)
            )
        assert nats == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3)


def test_rows_of_an_earlier_version_are_read(tmp_path: Path, rows: list[TrainingRow]) -> None:
    """Their files do not have the column of the teacher's prompt."""
    import pyarrow.parquet as pq

    from redistill.io.parquet import read_records, write_records

    file = tmp_path / "kept.parquet"
    write_records(file, TrainingRow, rows)
    assert read_records(file, TrainingRow) == rows
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["teacher_prompt_ids"]), file)
    assert read_records(file, TrainingRow) == [dataclasses.replace(r, teacher_prompt_ids=()) for r in rows]
    pq.write_table(table.drop_columns(["spans"]), file)
    with pytest.raises(DataError, match="but this version of redistill reads"):
        read_records(file, TrainingRow)
