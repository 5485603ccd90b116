"""A teacher made of teachers against one teacher: the same completions, and how many of each second.

``python -m tests.bench.replicas [--rows N] [--repeats N]``, in a project that has run a cycle. Both use vLLM on this machine, in turns: one engine with all cores, and
two replicas on Ray with half of them each. On one machine, replicas cannot be faster. The ratio says what chunks, messages and a second copy of the weights cost.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from redistill.cluster.settings import ClusterSettings
from redistill.data.types import Prompt
from redistill.io.parquet import read_records
from redistill.params import load_params
from redistill.runtime.cpu import usable_cores
from redistill.teacher.params import GenerateParams
from redistill.teacher.pool import TeacherPool
from redistill.teacher.requests import requests_for
from redistill.teacher.types import TeacherAnswer, TeacherRequest
from redistill.teacher.vllm import VllmTeacher
from tasks.locking.locked_teacher import read_lock
from tasks.locking.open_teacher import code_of_this_node
from tests.bench.generate import ratio

_REPLICAS = 2


@dataclass(frozen=True)
class Result:
    """Rates are completions a second after the first one, so that starts do not count. ``ratio``: median over the rounds, least and most."""

    rows: int
    repeats: int
    equal_texts: int
    equal_token_ids: int
    largest_logprob_difference: float
    one_teacher: list[float]
    replicas: list[float]
    ratio: tuple[float, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    # Replicas import `tasks`, as a stage's do.
    os.environ["PYTHONPATH"] = os.getcwd()
    params, lock = load_params(), read_lock()
    assert lock.path is not None
    prompts = read_records("artifacts/prompts/pool.parquet", Prompt)[: options.rows]
    requests = requests_for(prompts, params.data, lock.tokenizer, teacher_prompt=lock.prompt)
    settings = ClusterSettings("local", _REPLICAS, usable_cores() / _REPLICAS)
    open_one = functools.partial(VllmTeacher, lock.path.absolute())
    pool = TeacherPool(settings, open_one, code_of_this_node, lock.capabilities)
    engine = open_one()
    rounds = []
    for _ in range(options.repeats):
        one, alone = timed(engine, requests, params.generate)
        many, shared = timed(pool, requests, params.generate)
        rounds.append((one, many))
    result = compared(requests, alone, shared, rounds)
    print(json.dumps(asdict(result)))


def timed(
    teacher: VllmTeacher | TeacherPool, requests: Sequence[TeacherRequest], params: GenerateParams
) -> tuple[float, dict[str, TeacherAnswer]]:
    """Completions a second from the first to the last one, and the completions by prompt."""
    answers, first = dict[str, TeacherAnswer](), 0.0
    for answer in teacher.complete(requests, params):
        first = first or time.perf_counter()
        answers[answer.request.prompt_id] = answer
    return round((len(answers) - 1) / (time.perf_counter() - first), 2), answers


def compared(
    requests: Iterable[TeacherRequest],
    alone: dict[str, TeacherAnswer],
    shared: dict[str, TeacherAnswer],
    rounds: Sequence[tuple[float, float]],
) -> Result:
    pairs = [(alone[r.prompt_id], shared[r.prompt_id]) for r in requests]
    same = [(a, b) for a, b in pairs if a.text == b.text]
    one, many = zip(*rounds, strict=True)
    return Result(
        len(pairs),
        len(rounds),
        len(same),
        sum(a.token_ids == b.token_ids for a, b in pairs),
        max(abs((a.mean_logprob or 0.0) - (b.mean_logprob or 0.0)) for a, b in same),
        list(one),
        list(many),
        ratio(many, one),
    )


if __name__ == "__main__":
    main()
