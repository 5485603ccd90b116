"""KL(old ‖ new) from stored soft targets is that of the full distributions, over the completion alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from redistill.distillation.soft_targets.scoring import Sequenced, score_sequences
from redistill.distillation.soft_targets.shift import shifts_of_rows
from redistill.distillation.types import TrainingRow
from redistill.models.checkpoints import load_model
from redistill.models.tokenizers import load_tokenizer
from tests.tiny import make_tiny_model, training_rows


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, torch.nn.Module, list[TrainingRow]]:
    folder = tmp_path_factory.mktemp("shift")
    old, new = (load_model(make_tiny_model(folder / str(seed), seed=seed)) for seed in (0, 1))
    return old, new, training_rows(load_tokenizer(folder / "0"), 12)


def kl_of_row(old: torch.nn.Module, new: torch.nn.Module, row: TrainingRow) -> float:
    """The definition, in float64, over the tokens of the completion."""
    ids = torch.tensor([row.token_ids])
    with torch.inference_mode():
        p, q = (model(ids).logits[0, row.completion_begin - 1 : -1].double().log_softmax(-1) for model in (old, new))
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_with_the_whole_vocabulary_it_is_the_kl(models: tuple[torch.nn.Module, torch.nn.Module, list[TrainingRow]]) -> None:
    old, new, rows = models
    targets = {t.key: t for t in score_sequences(old, [Sequenced(r.key, r.token_ids) for r in rows], 400, (), 2048)}
    found = {row.key: nats for row, nats in shifts_of_rows(new, rows, targets, 2048, 400)}
    assert found == pytest.approx({row.key: kl_of_row(old, new, row) for row in rows}, rel=1e-3)
    assert len(found) == len(rows) == 12


def test_with_a_short_list_it_is_a_lower_bound_and_of_the_same_teacher_nothing(
    models: tuple[torch.nn.Module, torch.nn.Module, list[TrainingRow]],
) -> None:
    old, new, rows = models
    targets = {t.key: t for t in score_sequences(old, [Sequenced(r.key, r.token_ids) for r in rows], 8, (), 2048)}
    for row, nats in shifts_of_rows(new, rows, targets, 512, 400):
        assert 0.0 < nats <= kl_of_row(old, new, row) + 1e-6
    assert all(abs(nats) < 1e-4 for _, nats in shifts_of_rows(old, rows, targets, 2048, 400))


def test_a_head_that_is_wider_than_the_vocabulary_is_cut(
    models: tuple[torch.nn.Module, torch.nn.Module, list[TrainingRow]], tmp_path: Path
) -> None:
    """Rows beyond the tokenizer have weights of chance; a teacher with such a head has not moved against itself."""
    wide = load_model(make_tiny_model(tmp_path, seed=0))
    wide.resize_token_embeddings(440)
    torch.nn.init.normal_(wide.get_input_embeddings().weight[400:], std=0.2)
    targets = {t.key: t for t in score_sequences(wide, [Sequenced(r.key, r.token_ids) for r in models[2]], 8, (), 2048, 400)}
    assert all(abs(nats) < 1e-4 for _, nats in shifts_of_rows(wide, models[2], targets, 2048, 400))
