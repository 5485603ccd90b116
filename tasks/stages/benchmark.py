"""Stage ``benchmark@WHO``: one model on the rows that people look at, with its outcomes row by row, its size and its memory.

The stage ``timing`` measures times, because times of two processes cannot be compared. The arm ``prompted`` is the teacher as its owner publishes it,
with ``benchmark.few_shot`` labelled rows as examples: what a user would run without this project.

Also ``redistill stage benchmark --checkpoint DIR --out DIR``: the same for any checkpoint, which is how a registered version is
judged. What was measured for a model, rows, template and parameters is remembered by digest.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt, chosen_examples
from redistill.data.templates import completion_text, render, template_digest
from redistill.data.types import Prompt
from redistill.errors import ConfigError, DataError, TeacherError
from redistill.evaluation.cost import disk_bytes
from redistill.evaluation.lm_eval import completion_model, respond, run_benchmark, weights_model
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.probes.counterfactual import Pair, fairness_from, outcomes_of, pairs_digest, read_pairs
from redistill.evaluation.probes.general_ability import measure_breadth
from redistill.evaluation.summary import malformed_freely, summarise
from redistill.evaluation.timing import architecture
from redistill.evaluation.types import Cost, EvalReport, Fairness, Outcome, PairOutcome
from redistill.io.atomic import replacing_directory
from redistill.io.digests import canonical_digest, file_digest
from redistill.io.json import write_json
from redistill.io.parquet import read_records
from redistill.models import checkpoints, weights_source
from redistill.models.template_date import fix_date
from redistill.models.tokenizers import encode, load_tokenizer
from redistill.runtime.cpu import use_threads
from redistill.runtime.memory import PeakMemory
from redistill.runtime.precision import dtype_name, resolved
from redistill.runtime.progress import Progress, continues
from redistill.teacher.params import GenerateParams, TeacherParams
from redistill.teacher.prompt_file import read_prompt
from redistill.teacher.types import ENDPOINT
from redistill.validation.content import judge_text
from redistill.validation.params import IntakeParams
from redistill.validation.types import first_drop
from tasks.locking.locked_teacher import TEACHER, read_lock, template_date
from tasks.paths import ARTIFACTS, STATE
from tasks.results.files import write_open, write_sealed
from tasks.results.memos import remember, remembered
from tasks.results.rows import Rows, shown_rows

_SENT = IntakeParams(profanity=False)
"""Pairs may be about insults."""
PROMPTED = "prompted"
_TRAIN = ARTIFACTS / "prompts" / "train.parquet"


def benchmark(who: str, data: DataParams, teacher: TeacherParams, generate: GenerateParams, benchmark: BenchmarkParams) -> None:
    """Benchmark one arm (a checkpoint), the teacher that the lock names, or the linear baseline."""
    measure(who, shown_rows(data), data, teacher, generate, benchmark)


def measure(who: str, rows: Rows, data: DataParams, teacher: TeacherParams, generate: GenerateParams, benchmark: BenchmarkParams) -> None:
    """Measure one model on one set of rows."""
    target = rows.results / who
    if who == "linear":
        _linear(target, rows, data, benchmark)
    elif who == PROMPTED:
        _prompted(target, rows, data, teacher, generate, benchmark)
    elif who == "teacher" and teacher.backend == "openai":
        _endpoint(who, target, rows, data, teacher, generate, benchmark, read_lock().prompt)
    else:
        checkpoint = {"teacher": TEACHER, "base": ARTIFACTS / "base"}.get(who, ARTIFACTS / "students" / who)
        measure_checkpoint(who, checkpoint, target, rows, data, benchmark, read_prompt(checkpoint) if who == "teacher" else NO_PROMPT)


def _prompted(
    target: Path, rows: Rows, data: DataParams, teacher: TeacherParams, generate: GenerateParams, params: BenchmarkParams
) -> None:
    """The raw teacher with examples; a note instead of a report where params ask for none."""
    if not params.few_shot:
        with replacing_directory(target) as folder:
            write_json(folder / "off.json", {"benchmark.few_shot": 0})
        return
    examples = chosen_examples(read_records(_TRAIN, Prompt), params.few_shot, data, "benchmark.few_shot")
    prompt = TeacherPrompt(teacher.prompt.system or "", examples)
    if teacher.backend == "openai":
        _endpoint(PROMPTED, target, rows, data, teacher, generate, params, prompt)
    else:
        measure_checkpoint(PROMPTED, weights_source.resolve(teacher.model, teacher.revision), target, rows, data, params, prompt)


def benchmark_checkpoint(who: str, checkpoint: Path, target: Path, data: DataParams, benchmark: BenchmarkParams) -> None:
    """Measure any checkpoint on the rows that people look at."""
    measure_checkpoint(who, checkpoint, target, shown_rows(data), data, benchmark)


def measure_checkpoint(
    who: str,
    checkpoint: Path,
    target: Path,
    rows: Rows,
    data: DataParams,
    params: BenchmarkParams,
    prompt: TeacherPrompt = NO_PROMPT,
) -> None:
    """Measure local weights, or return a stored result of exactly the same measurement. ``prompt`` is what only this model is shown."""
    digest = checkpoints.model_digest(weights_source.checked_directory(checkpoint))
    if who == PROMPTED:
        # The directory is that of the weights alone. A teacher's directory has its prompt as a file.
        digest = canonical_digest([digest, prompt.digest, str(template_date("teacher"))])
    memo = rows.memo(digest, data, params)
    if remembered(memo):
        continues(f"{rows.stage}@{who}", "these weights were measured before")
    else:
        _measure(who, checkpoint, digest, memo, rows, data, params, prompt)
        remember(memo)
    with replacing_directory(target) as folder:
        shutil.copytree(memo, folder, dirs_exist_ok=True)


def _measure(
    who: str,
    checkpoint: Path,
    digest: str,
    target: Path,
    rows: Rows,
    data: DataParams,
    params: BenchmarkParams,
    prompt: TeacherPrompt,
) -> None:
    use_threads(params.threads)
    memory = _memory()
    model, tokenizer = loaded(checkpoint)
    if who == PROMPTED:
        fix_date(tokenizer, template_date("teacher"))
    prompts, rendered = _rendered(rows, data, tokenizer)
    pairs, pair_prompts = _pairs(rows, data, tokenizer, params)
    by_text = dict(zip([*rendered, *pair_prompts], [*prompts, *_both(pairs)], strict=True))
    reads = {r: render(p, data, tokenizer, prompt) for r, p in by_text.items()} if prompt else {}
    progress = Progress(f"{rows.stage}@{who}", 3, "parts")
    lm = weights_model(model, tokenizer, params, data, reads=reads)
    outcomes = run_benchmark(lm, prompts, rendered, data, params)
    progress(1)
    cost = Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        disk_bytes=disk_bytes(checkpoint),
        peak_memory_bytes=memory.grown_bytes(),
        tokens_per_request=_mean_written(outcomes, data, tokenizer, params),
        prompt_tokens_per_request=_mean_tokens([reads.get(r, r) for r in rendered], tokenizer),
    )
    fairness, pair_outcomes = _fairness(lm, pairs, pair_prompts, data, params)
    progress(2)
    breadth = {} if rows.sealed else measure_breadth(model, tokenizer, params)
    progress(3)
    template, built = template_digest(data, tokenizer), architecture(checkpoint)
    report = summarise(who, outcomes, data.grammar, cost, _identities(digest, rows, template, _backend()), params)
    freely = malformed_freely(outcomes, data.grammar) if data.structured_outputs else None
    report = replace(report, fairness=fairness, breadth=breadth, architecture=built, malformed_freely=freely)
    _write(target, rows, report, outcomes, pair_outcomes)


def loaded(checkpoint: Path) -> tuple[Any, Any]:
    """A checkpoint's model and tokenizer, ready to generate in batches."""
    model, tokenizer = checkpoints.load_model(checkpoint, dtype_name()), load_tokenizer(checkpoint)
    tokenizer.padding_side = "left"
    model.generation_config.max_length = None
    return model, tokenizer


def _memory() -> PeakMemory:
    """A watch on this process's memory that does not count what is imported as the model's."""
    import lm_eval.models.huggingface  # noqa: F401

    return PeakMemory()


def _backend() -> str:
    """The settings that all models of one comparison must share."""
    return f"transformers-{resolved()}"


def _rendered(rows: Rows, data: DataParams, tokenizer: Any) -> tuple[list[Prompt], list[str]]:
    prompts = rows.prompts()
    return prompts, [render(p, data, tokenizer) for p in prompts]


def _pairs(rows: Rows, data: DataParams, tokenizer: Any, params: BenchmarkParams) -> tuple[list[Pair], list[str]]:
    """Counterfactual pairs, and both prompts of each in order; nothing where none are named. Pairs are of no split, so they are measured once."""
    pairs = _fit_to_send(read_pairs(params.fairness), rows.stage) if params.fairness and not rows.sealed else []
    return pairs, [render(p, data, tokenizer) for p in _both(pairs)]


def _fit_to_send(pairs: Sequence[Pair], stage: str) -> list[Pair]:
    """Pairs without personal data and secrets, because pairs are sent to endpoints, stored and shown. ``intake`` does not turn this off.

    Raises:
        DataError: none is left.
    """
    verdicts = [(p, first_drop([judge_text(text, _SENT) for text in (*p.texts, p.id, p.kind, p.message)])) for p in pairs]
    reasons = Counter(f"{v.filter}: {v.reason}" for _, v in verdicts if v is not None)
    told = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
    if reasons:
        print(f"[{stage}] dropped {reasons.total()} of {len(pairs)} counterfactual pairs: {told}", flush=True)
    kept = [p for p, v in verdicts if v is None]
    if not kept:
        raise DataError(
            f"all {len(pairs)} counterfactual pairs are dropped: {told}; pairs are sent to models and shown in the report; remove this from the file"
        )
    return kept


def _fairness(
    lm: Any, pairs: Sequence[Pair], prompts: Sequence[str], data: DataParams, params: BenchmarkParams
) -> tuple[Fairness | None, list[PairOutcome]]:
    """The share of flips, and the responses that it was counted on; nothing where no pairs are named."""
    if not pairs:
        return None, []
    responses, sure_of = respond(lm, prompts, data.stops, params), getattr(lm, "sure_of", None)
    sure = None if sure_of is None else [sure_of(prompt).confidences for prompt in prompts]
    outcomes = outcomes_of(pairs, responses, sure)
    return fairness_from(outcomes, pairs_digest(pairs, prompts), data.grammar), outcomes


def _both(pairs: Sequence[Pair]) -> list[Prompt]:
    return [p for pair in pairs for p in pair.prompts]


def _mean_tokens(rendered: Sequence[str], tokenizer: Any) -> float:
    return sum(len(encode(r, tokenizer)) for r in rendered) / len(rendered)


def _mean_written(outcomes: Sequence[Outcome], data: DataParams, tokenizer: Any, params: BenchmarkParams) -> float:
    """Completion tokens of a response with its end, as far as it was let go on."""
    written = [min(params.max_tokens, len(encode(completion_text(o.response, data), tokenizer)) + 1) for o in outcomes]
    return sum(written) / len(written)


def _linear(target: Path, rows: Rows, data: DataParams, params: BenchmarkParams) -> None:
    from redistill.evaluation.probes.linear_baseline import fit

    if data.record_grammar is None:
        raise ConfigError(f"benchmark@linear needs labels, but data.task: {data.task} has none; remove it from dvc.yaml")
    tokenizer = load_tokenizer(ARTIFACTS / "base")
    memory = _memory()
    predict = fit(read_records(_TRAIN, Prompt), data.record_grammar, params.seed)
    prompts, rendered = _rendered(rows, data, tokenizer)
    pairs, pair_prompts = _pairs(rows, data, tokenizer, params)
    text_of = {r: p.text for p, r in zip([*prompts, *_both(pairs)], [*rendered, *pair_prompts], strict=True)}

    def complete(prompts: Sequence[str]) -> list[str]:
        return predict([text_of[r] for r in prompts])

    lm = completion_model(complete)
    outcomes = run_benchmark(lm, prompts, rendered, data, params)
    tokens = (_mean_written(outcomes, data, tokenizer, params), _mean_tokens(rendered, tokenizer))
    cost = Cost(None, 0, memory.grown_bytes(), *tokens)
    fairness, pair_outcomes = _fairness(lm, pairs, pair_prompts, data, params)
    template = template_digest(data, tokenizer)
    report = summarise("linear", outcomes, data.grammar, cost, _identities(file_digest(_TRAIN), rows, template, _backend()), params)
    _write(target, rows, replace(report, fairness=fairness), outcomes, pair_outcomes)


def _endpoint(
    who: str,
    target: Path,
    rows: Rows,
    data: DataParams,
    teacher: TeacherParams,
    generate: GenerateParams,
    params: BenchmarkParams,
    prompt: TeacherPrompt,
) -> None:
    tokenizer = load_tokenizer(ARTIFACTS / "base")
    prompts, rendered = _rendered(rows, data, tokenizer)
    pairs, pair_prompts = _pairs(rows, data, tokenizer, params)
    by_text = {r: p for p, r in zip([*prompts, *_both(pairs)], [*rendered, *pair_prompts], strict=True)}
    lm, written = endpoint_model(by_text, tokenizer, data, teacher, generate, params, prompt)
    outcomes = run_benchmark(lm, prompts, rendered, data, params)
    # The model's memory is on another machine; the memory of this process is only that of a client.
    # Its chat template is not known here; that of the base is near enough to count tokens.
    read = [render(p, data, tokenizer, prompt) for p in prompts] if prompt else rendered
    cost = Cost(None, 0, None, sum(written[r] for r in rendered) / len(rendered), _mean_tokens(read, tokenizer))
    fairness, pair_outcomes = _fairness(lm, pairs, pair_prompts, data, params)
    template = template_digest(data, tokenizer)
    model = read_lock().fingerprint.digest
    model = canonical_digest([model, prompt.digest]) if who == PROMPTED else model
    report = summarise(who, outcomes, data.grammar, cost, _identities(model, rows, template, ENDPOINT), params)
    _write(target, rows, replace(report, fairness=fairness), outcomes, pair_outcomes)


def endpoint_model(
    by_text: dict[str, Prompt],
    tokenizer: Any,
    data: DataParams,
    teacher: TeacherParams,
    generate: GenerateParams,
    params: BenchmarkParams,
    prompt: TeacherPrompt,
) -> tuple[Any, dict[str, int]]:
    """A teacher behind an endpoint as an lm-eval model for the prompts in ``by_text``, and a table that gets the completion tokens of each."""
    from redistill.teacher.completion_store import CompletionStore
    from redistill.teacher.endings import FAILED
    from redistill.teacher.requests import requests_for
    from tasks.stages.generate import ask

    lock = read_lock()
    greedy = replace(generate, temperature=0.0, top_k=0, samples=1, max_tokens=params.max_tokens)

    written: dict[str, int] = {}

    def complete(prompts: Sequence[str]) -> list[str]:
        requests = requests_for([by_text[r] for r in prompts], data, None, teacher_prompt=prompt)
        store = CompletionStore(STATE / "store" / "completions.sqlite")
        try:
            answers = ask(requests, lock, teacher, data, greedy, store)[0]
        finally:
            store.close()
        failed = [a for a in answers if a.finish_reason == FAILED]
        if failed:
            # A row without an answer would count against the teacher, and a student could pass for that.
            raise TeacherError(
                f"the teacher failed on {len(failed)} of {len(answers)} prompts ({failed[0].detail}); all completions so far are stored; run again"
            )
        written.update({r: len(a.token_ids) or len(encode(a.text, tokenizer)) for r, a in zip(prompts, answers, strict=True)})
        return [a.text for a in answers]

    return completion_model(complete), written


def _identities(model: str, rows: Rows, template: str, backend: str) -> dict[str, str]:
    return {"model": model, "heldout": file_digest(rows.file), "template": template, "backend": backend}


def _write(target: Path, rows: Rows, report: EvalReport, outcomes: Sequence[Outcome], pairs: Sequence[PairOutcome]) -> None:
    if rows.sealed:
        write_sealed(target, report, outcomes)
        print(f"[{rows.stage}@{report.who}] measured on {report.n} held-out rows; the results are sealed", flush=True)
        return
    write_open(target, report, outcomes, pairs)
    graded = "" if report.chrf is None else f"chrF {report.chrf:.3f}, "
    print(
        f"[{rows.stage}@{report.who}] {graded}exact match {report.exact_match.value:.3f}, F1 {report.f1.value:.3f}, n = {report.n}",
        flush=True,
    )


ON_CHECKPOINT = benchmark_checkpoint
"""What ``redistill stage benchmark --checkpoint DIR --out DIR`` calls."""
