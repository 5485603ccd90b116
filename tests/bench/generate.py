"""Generation through the stage against bare ``LLM.generate`` on the same prompts, in one process.

``python -m tests.bench.generate [--json] [--rows N] [--repeats N]``. All use one engine, in turns. Bare ``generate`` runs
twice: with the chosen token's probability, which ``validate`` needs, and without it. The ratio to the first is what our rendering, store and bookkeeping cost. Needs a teacher: run a cycle first. Target: at least 0.97 of the bare tokens/s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from redistill.data.templates import render
from redistill.data.types import Prompt
from redistill.io.parquet import read_records
from redistill.models.tokenizers import encode
from redistill.params import load_params
from redistill.teacher.completion_store import CompletionStore
from redistill.teacher.types import TeacherRequest
from redistill.teacher.vllm import VllmTeacher
from tasks.locking.locked_teacher import read_lock
from tasks.stages import generate as stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON object")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    params, lock = load_params(), read_lock()
    assert lock.path is not None
    engine = VllmTeacher(lock.path)
    prompts = read_records("artifacts/prompts/pool.parquet", Prompt)[: given.rows]
    requests = [TeacherRequest(p.id, 0, p.messages, render(p, params.data, lock.tokenizer), p.slice, params.data.stops) for p in prompts]
    rounds = []
    for repeat in range(given.repeats + 1):
        plain = bare(engine, requests, params.generate.max_tokens)
        ours = through_stage(engine, requests, lock, params, repeat)
        rounds.append((plain, bare(engine, requests, params.generate.max_tokens, logprobs=0, flat_logprobs=True), ours))
    plain_rates, bare_rates, stage_rates = zip(*rounds[1:], strict=True)  # the first round warms all up
    result = {
        "rows": len(requests),
        "repeats": given.repeats,
        "bare_tokens_per_s": round(statistics.median(plain_rates), 1),
        "bare_with_logprobs_tokens_per_s": round(statistics.median(bare_rates), 1),
        "stage_tokens_per_s": round(statistics.median(stage_rates), 1),
        "ratio": ratio(stage_rates, bare_rates),
        "ratio_to_bare_without_logprobs": ratio(stage_rates, plain_rates),
    }
    if not given.json:
        print(f"bare LLM.generate {result['bare_tokens_per_s']} tokens/s, with logprobs {result['bare_with_logprobs_tokens_per_s']}")
        print(f"through the stage {result['stage_tokens_per_s']} tokens/s, {len(requests)} prompts, median of {given.repeats}")
        print("ratio {} ({} to {}; target 0.97)".format(*result["ratio"]))
        print("ratio to bare without logprobs {} ({} to {})".format(*result["ratio_to_bare_without_logprobs"]))
    print(json.dumps(result))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Median over the rounds, least and most: a shared machine changes its pace by more than what is looked for."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return round(statistics.median(each), 3), round(min(each), 3), round(max(each), 3)


class _Open:
    """The engine kept open over repeats; the stage closes what it opened."""

    def __init__(self, engine: VllmTeacher) -> None:
        self.complete = engine.complete

    def close(self) -> None:
        pass


def bare(engine: VllmTeacher, requests: list[TeacherRequest], max_tokens: int, **more: object) -> float:
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    prompts = [TokensPrompt(prompt_token_ids=encode(r.prompt, engine._tokenizer)) for r in requests]
    start = time.perf_counter()
    results = engine._llm.generate(prompts, SamplingParams(temperature=0.0, max_tokens=max_tokens, **more), use_tqdm=False)
    return sum(len(r.outputs[0].token_ids) for r in results) / (time.perf_counter() - start)


def through_stage(engine: VllmTeacher, requests: list[TeacherRequest], lock: object, params: object, repeat: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = CompletionStore(Path(folder) / "store.sqlite")
        generate = replace(params.generate, temperature=0.0, seed=repeat)
        start = time.perf_counter()
        answers, asked = stage.ask(requests, lock, params.teacher, params.data, generate, store, lambda *_: _Open(engine))
        seconds = time.perf_counter() - start
        store.close()
    assert asked == len({a.request.prompt for a in answers})
    return sum(len(a.token_ids) for a in answers) / seconds


if __name__ == "__main__":
    main()
