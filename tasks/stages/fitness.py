"""Stage ``fitness``: the teacher, and a linear model, on labelled rows that train nothing and decide nothing: ``dev`` and calibration rows with labels.

``redistill.promotion.fitness`` judges from these outcomes whether the gates are within the teacher's reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redistill.data.params import DataParams
from redistill.data.templates import render
from redistill.data.types import Prompt
from redistill.errors import DataError
from redistill.evaluation.lm_eval import completion_model, run_benchmark, weights_model
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.types import Outcome
from redistill.io.atomic import replacing_directory
from redistill.io.parquet import read_records, write_records
from redistill.models.tokenizers import load_tokenizer
from redistill.runtime.cpu import use_threads
from redistill.teacher.params import GenerateParams, TeacherParams
from redistill.teacher.prompt_file import read_prompt
from tasks.locking.locked_teacher import TEACHER, read_lock
from tasks.paths import ARTIFACTS
from tasks.stages.benchmark import endpoint_model, loaded

FITNESS = ARTIFACTS / "fitness"


def fitness(data: DataParams, teacher: TeacherParams, generate: GenerateParams, benchmark: BenchmarkParams) -> None:
    """Write the teacher's and the linear model's outcomes; both files are empty if no such row has a label."""
    prompts = [p for split in ("dev", "calibration") for p in read_records(ARTIFACTS / "prompts" / f"{split}.parquet", Prompt)]
    prompts = [p for p in prompts if p.label is not None]
    outcomes = _teacher(prompts, data, teacher, generate, benchmark) if prompts else []
    linear = _linear(prompts, data, benchmark) if prompts else []
    with replacing_directory(FITNESS) as folder:
        write_records(folder / "teacher.parquet", Outcome, outcomes)
        write_records(folder / "linear.parquet", Outcome, linear)
    right = sum(o.exact for o in outcomes)
    print(f"[fitness] the teacher is exactly right on {right} of {len(outcomes)} labelled dev and calibration rows", flush=True)


def _teacher(
    prompts: Sequence[Prompt], data: DataParams, teacher: TeacherParams, generate: GenerateParams, params: BenchmarkParams
) -> list[Outcome]:
    if teacher.backend == "openai":
        tokenizer = load_tokenizer(ARTIFACTS / "base")
        rendered = [render(p, data, tokenizer) for p in prompts]
        lm, _ = endpoint_model(dict(zip(rendered, prompts, strict=True)), tokenizer, data, teacher, generate, params, read_lock().prompt)
        return run_benchmark(lm, prompts, rendered, data, params)
    use_threads(params.threads)
    model, tokenizer = loaded(TEACHER)
    rendered, prompt = [render(p, data, tokenizer) for p in prompts], read_prompt(TEACHER)
    reads = {r: render(p, data, tokenizer, prompt) for r, p in zip(rendered, prompts, strict=True)} if prompt else None
    return run_benchmark(weights_model(model, tokenizer, params, data, reads=reads), prompts, rendered, data, params)


def _linear(prompts: Sequence[Prompt], data: DataParams, params: BenchmarkParams) -> list[Outcome]:
    from redistill.evaluation.probes.linear_baseline import fit

    if data.record_grammar is None:
        return []
    try:
        predict = fit(read_records(ARTIFACTS / "prompts" / "train.parquet", Prompt), data.record_grammar, params.seed)
    except DataError:
        return []  # Too few labels for a linear model; there is nothing to compare with.
    texts = [p.text for p in prompts]
    lines: Any = dict(zip(texts, predict(texts), strict=True))
    return run_benchmark(completion_model(lambda asked: [lines[text] for text in asked]), prompts, texts, data, params)
