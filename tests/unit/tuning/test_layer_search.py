"""The greedy search drops what does nothing first, and its cost is the model's own cross-entropy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from redistill.data.params import DataParams, SourceParams
from redistill.distillation.types import Span, TrainingRow
from redistill.errors import ConfigError, DataError
from redistill.models.checkpoints import load_model
from redistill.models.params import StudentParams
from redistill.models.pruning import prune
from redistill.teacher.params import TeacherParams
from redistill.tuning.layer_search import batch_of, completion_nll, greedy_cuts
from tasks.tuning.layer_search import search_layers
from tests.tiny import make_tiny_model

DATA = DataParams(name="tiny", source=(SourceParams(path="rows.jsonl", splits={"pool": 1.0}),), task="generation")


def row(prompt: list[int], completion: list[int]) -> TrainingRow:
    begin, end = len(prompt), len(prompt) + len(completion)
    spans = (Span("prompt", 0, begin), Span("completion", begin, end))
    return TrainingRow(str(prompt), 0, (*prompt, *completion), spans, "tokenizer", "", "gold")


ROWS = [row([5, 6, 7], [8, 9]), row([5, 9, 11, 12], [13, 2])]


@pytest.fixture
def model(tmp_path: Path) -> torch.nn.Module:
    make_tiny_model(tmp_path / "tiny", layers=4, seed=3)
    return load_model(tmp_path / "tiny").eval()


def test_it_drops_the_layer_that_a_trial_of_each_finds_cheapest(tmp_path: Path, model: torch.nn.Module) -> None:
    costs = {}
    for layer in range(4):
        kept = [i for i in range(4) if i != layer]
        student = prune(load_model(tmp_path / "tiny").eval(), kept)
        losses = []
        for r in ROWS:
            logits = student(torch.tensor([r.token_ids])).logits[0, r.completion_begin - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(r.completion_ids), reduction="sum"))
        costs[layer] = float(sum(losses).detach()) / sum(len(r.completion_ids) for r in ROWS)
    cut = next(greedy_cuts(model, ROWS, 3))
    assert cut.dropped == min(costs, key=costs.__getitem__)
    assert cut.nll == pytest.approx(min(costs.values()), abs=1e-5)


def test_a_layer_that_does_nothing_costs_nothing(model: torch.nn.Module) -> None:
    for i in (0, 1, 2):
        layer = model.get_decoder().layers[i]
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    first, second = greedy_cuts(model, ROWS, 2)
    # Whether the one that works goes first or never, from then on only idle ones are left to drop or were dropped.
    assert second.nll == pytest.approx(first.nll, abs=1e-5)


def test_cost_is_the_cross_entropy_of_the_completion(model: torch.nn.Module) -> None:
    ids = torch.tensor([ROWS[0].token_ids])
    labels = ids.clone()
    labels[0, : ROWS[0].completion_begin] = -100
    expected = float(model(ids, labels=labels).loss.detach())
    assert completion_nll(model, batch_of(ROWS[:1])) == pytest.approx(expected, abs=1e-5)


def test_every_candidate_is_counted(model: torch.nn.Module) -> None:
    tried: list[int] = []
    cuts = list(greedy_cuts(model, ROWS, 2, lambda: tried.append(1)))
    assert len(tried) == 4 + 3
    assert [len(c.kept) for c in cuts] == [3, 2]


def test_masks_follow_the_layers_that_stay(tmp_path: Path) -> None:
    """Where some layers look only a window back, a cut moves them to other places; the search must judge the model that is built."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(5)
    types = ["full_attention", "sliding_attention", "full_attention"]
    config = Qwen2Config(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        use_sliding_window=True, sliding_window=2, layer_types=types, initializer_range=0.5,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    rows = [row([5, 6, 7, 8, 9, 10], [11, 12, 13])]
    cut = next(greedy_cuts(load_model(tmp_path).eval(), rows, 2))
    built = {d: prune(load_model(tmp_path).eval(), [i for i in range(3) if i != d]) for d in range(3)}
    costs = {d: completion_nll(m, batch_of(rows)) for d, m in built.items()}
    assert cut.dropped == min(costs, key=costs.__getitem__)
    assert cut.nll == pytest.approx(min(costs.values()), abs=1e-5)


@pytest.mark.parametrize(
    ("keep", "base", "error", "says"),
    [(2, "other/base", ConfigError, "is not a part of the local teacher"), (2, "teacher", DataError, "run a cycle first")],
)
def test_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int, base: str, error: type[Exception], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        search_layers(keep, DATA, TeacherParams(model="teacher"), StudentParams(model=base, init="copy"), print)


@pytest.mark.parametrize("keep", [0, 4, 30])
def test_the_command_refuses_a_depth_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int) -> None:
    monkeypatch.chdir(tmp_path)
    make_tiny_model(tmp_path / "artifacts" / "teacher", layers=4)
    (tmp_path / "artifacts" / "prompts").mkdir()
    (tmp_path / "artifacts" / "prompts" / "train.parquet").touch()
    with pytest.raises(ConfigError, match="from 1 to 3"):
        search_layers(keep, DATA, TeacherParams(model="teacher"), StudentParams(model="teacher", init="copy"), print)
