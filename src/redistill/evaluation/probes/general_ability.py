"""What a narrow student has forgotten: sixty general questions in every report, and lm-eval benchmarks that params.yaml names.

The report shows them next to the held-out scores. They do not affect the decision: a student is promoted for its task.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redistill.errors import ConfigError, DataError
from redistill.evaluation.lm_eval import samples_of, weights_model
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.probes.general_questions import QUESTIONS
from redistill.statistics.shares import share
from redistill.statistics.types import Score

GENERAL = "general questions"
_METRICS = ("acc_norm", "acc", "exact_match")
_BATCH = 8
"""Whole benchmarks have long contexts, and a row of logits is as wide as the vocabulary."""


def measure_breadth(model: Any, tokenizer: Any, params: BenchmarkParams) -> dict[str, Score]:
    """Accuracy with its 95 % interval by benchmark: always ``general questions``, and what ``benchmark.tasks`` names.

    Raises:
        ConfigError: lm-eval has no such task, or its data cannot be reached.
        DataError: a task that counts no right answers.
    """
    lm = weights_model(model, tokenizer, params, batch_size=_BATCH)
    accuracies = {GENERAL: _accuracy(GENERAL, samples_of(lm, _general(), params))}
    for task in params.tasks:
        accuracies[task] = _accuracy(task, _named(lm, task, params))
    return accuracies


def _general() -> dict[str, Any]:
    import datasets

    rows = []
    for number, (question, *choices) in enumerate(QUESTIONS):
        # The right choice has each position in turn: of equally likely choices, the first would win.
        turn = number % len(choices)
        rows.append({"question": question, "choices": [*choices[-turn:], *choices[:-turn]] if turn else choices, "answer": turn})
    return {
        "task": "redistill_general",
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": " ",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }


def _named(lm: Any, task: str, params: BenchmarkParams) -> list[dict[str, Any]]:
    # What lm-eval's own command reads such files with; there is no public name for it.
    from lm_eval.tasks._yaml_loader import load_yaml

    config: Any = task
    manager = _task_manager(not task.endswith(".yaml"))
    if task.endswith(".yaml"):
        if not Path(task).is_file():
            raise ConfigError(f"benchmark.tasks: no file {task}; name a task of lm-eval, or a YAML file that describes one")
        config = load_yaml(task, resolve_func=True)
    elif not manager.match_tasks([task]):
        raise ConfigError(f"benchmark.tasks: lm-eval has no task {task!r}; `lm-eval ls tasks` lists them")
    try:
        return samples_of(lm, config, params, manager=manager, fewshot=None, limit=params.task_rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"benchmark.tasks: {task} could not be run ({type(error).__name__}: {reason}); its data may need the hub, "
            "check the network and HF_HUB_OFFLINE, or remove the task"
        ) from None


@functools.cache
def _task_manager(named: bool) -> Any:
    """One for all tasks of a benchmark: where lm-eval's own tasks are ``named``, it reads thousands of files first, which takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=named)


def _accuracy(task: str, samples: Sequence[dict[str, Any]]) -> Score:
    """Over all rows of a task, or of all tasks of a group; one filter, as each repeats the rows."""
    first = [s for s in samples if s["filter"] == samples[0]["filter"]]
    metric = next((m for m in _METRICS if all(m in s for s in first)), None)
    values = [float(s[metric]) for s in first] if metric else []
    if not values or any(v not in (0.0, 1.0) for v in values):
        metrics = ", ".join(samples[0]["metrics"]) if samples else "none"
        raise DataError(
            f"benchmark.tasks: {task} does not count right answers (its metrics: {metrics}); choose a task with one of {', '.join(_METRICS)}"
        )
    return share(int(sum(values)), len(values))
