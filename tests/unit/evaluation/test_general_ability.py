"""What is asked outside the task: the questions themselves, on a real tiny model, and lm-eval's tasks by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from redistill.errors import ConfigError, DataError
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.probes.general_ability import GENERAL, measure_breadth
from redistill.evaluation.probes.general_questions import QUESTIONS
from redistill.models import checkpoints
from redistill.models.tokenizers import load_tokenizer
from tests.tiny import make_tiny_model

PARAMS = BenchmarkParams(batch_size=4, max_tokens=8)
TASK = """task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{q}}}}"
{choices}
doc_to_target: a
metric_list:
  - metric: {metric}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, object]:
    path = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny", seed=3)
    tokenizer = load_tokenizer(path)
    return checkpoints.load_model(path, "float32"), tokenizer


def task_file(folder: Path, kind: str = "multiple_choice", metric: str = "acc") -> str:
    rows = [{"q": f"{n} plus one is", "c": [str(n + 1), str(n + 2)], "a": 0 if kind == "multiple_choice" else str(n + 1)} for n in range(6)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    choices = "doc_to_choice: c" if kind == "multiple_choice" else "generation_kwargs: {until: ['\\n'], max_gen_toks: 4}"
    text = TASK.format(data=folder / "sums.jsonl", kind=kind, choices=choices, metric=metric)
    (folder / "sums.yaml").write_text(text, encoding="utf-8")
    return str(folder / "sums.yaml")


def test_questions_have_one_right_answer_and_three_others() -> None:
    assert len({q[0] for q in QUESTIONS}) == len(QUESTIONS) == 60
    for question, *choices in QUESTIONS:
        assert len(set(choices)) == 4 and not question.endswith(" ") and all(c == c.strip() for c in choices), question


def test_accuracy_is_what_the_likelihoods_say(tiny: tuple[object, object]) -> None:
    """Against log-likelihoods that are summed here, one choice at a time and without padding."""
    model, tokenizer = tiny
    right = 0
    for question, *choices in QUESTIONS:
        scores = []
        for choice in choices:
            # lm-eval's own cut between the two: the question's tokens by themselves.
            ids = torch.tensor([tokenizer(f"{question} {choice}", add_special_tokens=False)["input_ids"]])  # type: ignore[operator]
            start = len(tokenizer(question, add_special_tokens=False)["input_ids"])  # type: ignore[operator]
            with torch.no_grad():
                logprobs = model(ids).logits[0].float().log_softmax(-1)  # type: ignore[operator]
            scores.append(sum(float(logprobs[t - 1, ids[0, t]]) for t in range(start, ids.shape[1])))
        right += scores[0] == max(scores)
    found = measure_breadth(model, tokenizer, PARAMS)
    assert list(found) == [GENERAL] and abs(found[GENERAL].value - right / 60) <= 1.5 / 60, "a tie of floating point may tip one question"
    assert 0 <= found[GENERAL].interval.low < found[GENERAL].value < found[GENERAL].interval.high


def test_a_task_from_a_file_and_its_rows_are_cut(tiny: tuple[object, object], tmp_path: Path) -> None:
    task = task_file(tmp_path)
    found = measure_breadth(*tiny, BenchmarkParams(tasks=(task,), task_rows=4))
    assert math.isclose(found[task].value * 4, round(found[task].value * 4)), "four rows"
    assert BenchmarkParams(tasks=(task, "hellaswag")).files == [task]


def test_a_task_that_counts_nothing_right_is_refused(tiny: tuple[object, object], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not count right answers \(its metrics: chrf\)"):
        measure_breadth(*tiny, BenchmarkParams(tasks=(task_file(tmp_path, "generate_until", "chrf"),)))


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("hellaswagg", "lm-eval has no task 'hellaswagg'"),
        ("arc_easy", "arc_easy could not be run .* its data may need the hub"),
        ("none.yaml", "no file none.yaml"),
    ],
)
def test_a_task_that_cannot_be_had_is_one_line(
    tiny: tuple[object, object], task: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=said):
        measure_breadth(*tiny, BenchmarkParams(tasks=(task,)))
