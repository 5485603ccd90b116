"""By how much a student's scores differ between engines and batches, and whether a cascade decides alike.

``python -m tests.bench.cascade_engines [ARM]`` in a project after a cycle: the arm completes the calibration and monitor rows with transformers in
batches and one by one, and with vLLM under load (64 requests at a time) and one by one. Scores of the same completion are compared with those of the
calibration, which are transformers in batches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from redistill.data.templates import render
from redistill.data.types import Prompt
from redistill.evaluation.confidence.all_scores import confidences
from redistill.evaluation.lm_eval import respond, weights_model
from redistill.evaluation.types import Confidence
from redistill.io.parquet import read_records
from redistill.models import checkpoints
from redistill.models.generation import end_ids
from redistill.models.token_trace import TOP, TokenTrace, greedy_trace
from redistill.models.tokenizers import load_tokenizer
from redistill.params import Params, load_params
from redistill.runtime.precision import dtype_name
from redistill.teacher.types import TeacherAnswer, TeacherRequest
from tasks.paths import ARTIFACTS
from tasks.promotion.live_system import arm_calibration

Answers = list[tuple[str, tuple[Confidence, ...]]]
"""A response and its scores for each prompt."""


def with_transformers(params: Params, model: object, tokenizer: object, prompts: Sequence[Prompt], batch: int) -> Answers:
    lm = weights_model(model, tokenizer, params.benchmark, params.data, batch_size=batch)
    rendered = [render(p, params.data, tokenizer) for p in prompts]
    responses = respond(lm, rendered, params.data.stops, params.benchmark)
    return [(response, lm.sure_of(text).confidences) for response, text in zip(responses, rendered, strict=True)]


def vllm_engine(params: Params, arm: str) -> Callable[[Sequence[Prompt], int], Answers]:
    from redistill.teacher.vllm import VllmTeacher

    folder = ARTIFACTS / "students" / arm
    engine, tokenizer = VllmTeacher(folder), load_tokenizer(folder)
    ends = end_ids(checkpoints.load_model(folder, dtype_name()))
    greedy = replace(params.generate, temperature=0.0, samples=1, max_tokens=params.benchmark.max_tokens, top_k=TOP)

    def trace_of(answer: TeacherAnswer) -> TokenTrace:
        listed = [sorted({i: v for i, v in zip(ids, values, strict=True)}.items(), key=lambda pair: -pair[1]) for ids, values in
                  zip(answer.top_ids, answer.top_logprobs, strict=True)]  # fmt: skip
        return greedy_trace(
            answer.token_ids, [[i for i, _ in row] for row in listed], [[v for _, v in row] for row in listed], tokenizer.decode, ends
        )

    def run(prompts: Sequence[Prompt], at_a_time: int) -> Answers:
        requests = [TeacherRequest(p.id, 0, p.messages, render(p, params.data, tokenizer), p.slice, params.data.stops) for p in prompts]
        found = {a.request.prompt_id: a for a in engine.complete(requests, replace(greedy, batch_rows=at_a_time))}
        return [(found[p.id].text, confidences(trace_of(found[p.id]), params.data.grammar)) for p in prompts]

    return run


def main() -> None:
    params = load_params()
    arm = sys.argv[1] if len(sys.argv) > 1 else params.promote.arm
    folder = ARTIFACTS / "students" / arm
    calibration = arm_calibration(arm, checkpoints.model_digest(folder))
    assert calibration is not None and calibration.cascade is not None, f"{arm} has no cascade; run a cycle first"
    cascade = calibration.cascade
    prompts = [p for split in ("calibration", "monitor") for p in read_records(ARTIFACTS / "prompts" / f"{split}.parquet", Prompt)]
    tokenizer, model = load_tokenizer(folder), checkpoints.load_model(folder, dtype_name())
    tokenizer.padding_side = "left"
    model.generation_config.max_length = None
    here = with_transformers(params, model, tokenizer, prompts, params.benchmark.batch_size)
    few = prompts[:: max(1, len(prompts) // 100)]
    vllm = vllm_engine(params, arm)
    others = {
        "transformers, one by one": (few, with_transformers(params, model, tokenizer, few, 1)),
        "vLLM, 64 at a time": (prompts, vllm(prompts, 64)),
        "vLLM, 64 at a time, again": (prompts, vllm(prompts, 64)),
        "vLLM, one by one": (few, vllm(few, 1)),
    }
    by_id = {p.id: answer for p, answer in zip(prompts, here, strict=True)}
    exact = replace(cascade, band=0.0)
    print(f"{arm}, {dtype_name()}, {cascade.rule} (threshold {cascade.threshold:.4f}, band {cascade.band:g}), {len(prompts)} rows\n")
    names = [c.score for c in here[0][1]]
    print(
        f"| engine | rows | same completion | {' | '.join(f'{n}, 99 % / most' for n in names)} | answered otherwise, no band | wrongly answered, with band |"
    )
    print(f"|{'---|' * (5 + len(names))}")
    for name, (rows, answers) in others.items():
        pairs = [(by_id[p.id], answer) for p, answer in zip(rows, answers, strict=True)]
        same = [(a, b) for a, b in pairs if a[0] == b[0]]
        cells = []
        for score in range(len(names)):
            moved = [abs(a[1][score].value - b[1][score].value) for a, b in same]
            cells.append(f"{np.quantile(moved, 0.99):.3f} / {max(moved):.3f}")
        otherwise = sum(exact.choose(a[1]).answers != exact.choose(b[1]).answers for a, b in pairs)
        # What the band is for: a row that was deferred at calibration must not be answered by another engine.
        wrongly = sum(exact.choose(a[1]).answers == "teacher" and cascade.choose(b[1]).answers == "student" for a, b in pairs)
        print(f"| {name} | {len(rows)} | {len(same)} | {' | '.join(cells)} | {otherwise} | {wrongly} |", flush=True)
    inside = sum(
        cascade.threshold < v <= cascade.limit for _, sure in here for v in [next(c.value for c in sure if c.score == cascade.score)]
    )
    print(f"\nInside the band: {inside} of {len(prompts)} rows.")


if __name__ == "__main__":
    main()
