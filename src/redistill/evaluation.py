"""How good is it: one generated lm-eval benchmark, one backend and template for every model compared.

lm-eval asks (``generate_until``, greedy, the template that serves) and keeps every sample with its document and prompt
hash; what is counted on a sample is ours: exact match of the record, and F1 over its fields.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from redistill.calibration import calibration
from redistill.checkpoints import left_padded
from redistill.config import BenchmarkParams, DataParams
from redistill.errors import DataError
from redistill.grammar import RecordGrammar
from redistill.prompting import STOP
from redistill.records import Calibration, Cost, EvalReport, Outcome, Prompt
from redistill.statistics import bootstrap_f1, share

TASK = "redistill_heldout"
Items = frozenset[tuple[str, str]]


@functools.lru_cache(maxsize=1 << 16)
def items_of(grammar: RecordGrammar | None, line: str) -> Items | None:
    """The (field, value) pairs of a completion; None where it breaks the grammar. Free text is one item."""
    if grammar is None:
        return frozenset({("text", line.strip())})
    try:
        return grammar.parse(line).items()
    except DataError:
        return None


def outcome_of(sample: dict[str, Any], prompt: Prompt, grammar: RecordGrammar | None, confidence: float | None = None) -> Outcome:
    response = str(sample["filtered_resps"][0]).strip()
    target = prompt.label or ""
    wanted = items_of(grammar, target) or frozenset()
    given = items_of(grammar, response) or frozenset()
    return Outcome(
        prompt_id=prompt.id,
        doc_hash=sample["doc_hash"],
        prompt_hash=sample["prompt_hash"],
        slice=prompt.slice,
        target=target,
        response=response,
        exact=response == target,
        true_positives=len(wanted & given),
        false_positives=len(given - wanted),
        false_negatives=len(wanted - given),
        confidence=confidence,
    )


def run_benchmark(
    model: Any, prompts: Sequence[Prompt], rendered: Sequence[str], data: DataParams, params: BenchmarkParams
) -> list[Outcome]:
    """Ask an lm-eval model every held-out prompt and return one outcome a row, in the order of ``prompts``."""
    rows = [{"prompt_id": p.id, "prompt": r, "target": p.label} for p, r in zip(prompts, rendered, strict=True)]
    by_id = {p.id: p for p in prompts}
    samples = samples_of(model, _generation(TASK, rows, params), params)
    if len(samples) != len(prompts):
        raise DataError(f"lm-eval returned {len(samples)} samples for {len(prompts)} held-out rows")
    sure = getattr(model, "confidence_of", lambda _: None)
    return [outcome_of(s, by_id[s["doc"]["prompt_id"]], data.grammar, sure(s["doc"]["prompt"])) for s in samples]


def respond(model: Any, rendered: Sequence[str], params: BenchmarkParams) -> list[str]:
    """Greedy responses to prompts that have no target, asked just as the held-out ones are."""
    rows = [{"prompt": r, "target": ""} for r in rendered]
    return [str(s["filtered_resps"][0]).strip() for s in samples_of(model, _generation(f"{TASK}_pairs", rows, params), params)]


def _generation(task: str, rows: list[dict[str, Any]], params: BenchmarkParams) -> dict[str, Any]:
    import datasets

    return {
        "task": task,
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{target}}",
        "generation_kwargs": {"until": [STOP], "do_sample": False, "max_gen_toks": params.max_tokens},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }


def samples_of(
    model: Any, task: Any, params: BenchmarkParams, *, manager: Any = None, fewshot: int | None = 0, limit: int | None = None
) -> list[dict[str, Any]]:
    """Run one lm-eval task (a configuration, or a name that ``manager`` knows) and return its samples in order of document.

    ``fewshot`` None is the task's own number of examples; ``limit`` cuts it to its first rows.
    """
    import lm_eval
    from lm_eval import evaluator

    # After each evaluation it describes the machine by means of `pip list`: one and a half seconds, for a record that nobody here reads.
    evaluator.add_env_info = lambda storage: None

    results = lm_eval.simple_evaluate(
        model=model,
        tasks=[task],
        num_fewshot=fewshot,
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
        random_seed=params.seed,
        numpy_random_seed=params.seed,
        torch_random_seed=params.seed,
        fewshot_random_seed=params.seed,
        task_manager=manager or lm_eval.tasks.TaskManager(include_defaults=False),
    )
    return [s for name in sorted(results["samples"]) for s in sorted(results["samples"][name], key=lambda s: s["doc_id"])]


def completion_model(complete: Callable[[Sequence[str]], Sequence[str]]) -> Any:
    """An lm-eval model around any function from prompts to completions (linear baseline, endpoint)."""
    from lm_eval.api.model import LM

    class CompletionModel(LM):  # type: ignore[misc]
        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            return list(complete([r.args[0] for r in requests]))

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise DataError("this model only completes; it has no log-likelihoods")

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self.loglikelihood(requests)

    return CompletionModel()


def weights_model(model: Any, tokenizer: Any, params: BenchmarkParams, *, batch_size: int | None = None) -> Any:
    """lm-eval's transformers backend around loaded weights; nothing is added to the prompt's tokens.

    It also keeps how sure the model was of each response: the probability of the whole of it, at no further forward pass.
    """
    import torch
    from lm_eval.models.huggingface import HFLM

    class ConfidentModel(HFLM):  # type: ignore[misc]
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self._sure: dict[tuple[int, ...], float] = {}

        def _model_generate(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> Any:
            chosen_TB: list[torch.Tensor] = []

            def listen(_: Any, scores_BV: torch.Tensor) -> torch.Tensor:
                # Greedy: the token to come is the likeliest one.
                wide = scores_BV.float()
                chosen_TB.append(wide.amax(-1) - wide.logsumexp(-1))
                return scores_BV

            out = super()._model_generate(context, max_length, stop, logits_processor=[listen], **kwargs)
            made_BT = out[:, context.shape[1] :]
            ended = made_BT.eq(self.eot_token_id).cumsum(-1)
            # Up to and with the first end token; what follows it is padding.
            counts = (ended - made_BT.eq(self.eot_token_id).long()) == 0
            sums = (torch.stack(chosen_TB, dim=1)[:, : made_BT.shape[1]] * counts).sum(-1).exp()
            mask = kwargs["attention_mask"].bool()
            for row, given, sure in zip(context, mask, sums.tolist(), strict=True):
                self._sure[tuple(row[given].tolist())] = min(1.0, sure)
            return out

        def confidence_of(self, prompt: str) -> float | None:
            return self._sure.get(tuple(self.tok_encode(prompt)))

    batch_size = batch_size or params.batch_size
    return ConfidentModel(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu", add_bos_token=False)


def summarise(
    who: str, outcomes: Sequence[Outcome], grammar: RecordGrammar | None, cost: Cost, identities: dict[str, str], params: BenchmarkParams
) -> EvalReport:
    """Scores with intervals over all rows, per field and per slice."""
    exact = [o.exact for o in outcomes]
    counts = np.array([[o.true_positives, o.false_positives, o.false_negatives] for o in outcomes])
    fields = {}
    for name in grammar.fields if grammar else ("text",):
        rows = np.array([_field_counts(o, name, grammar) for o in outcomes])
        fields[name] = bootstrap_f1(rows[:, 0], rows[:, 1], rows[:, 2], params.bootstrap, params.seed)
    slices = {
        s: share(sum(o.exact for o in outcomes if o.slice == s), sum(o.slice == s for o in outcomes))
        for s in sorted({o.slice for o in outcomes})
    }
    return EvalReport(
        who=who,
        model_digest=identities["model"],
        heldout_digest=identities["heldout"],
        template_digest=identities["template"],
        n=len(outcomes),
        exact_match=share(sum(exact), len(exact)),
        f1=bootstrap_f1(counts[:, 0], counts[:, 1], counts[:, 2], params.bootstrap, params.seed),
        fields=fields,
        slices=slices,
        cost=cost,
        malformed=sum(items_of(grammar, o.response) is None for o in outcomes),
        backend=identities["backend"],
        calibration=_calibration(outcomes, params),
        chrf=None if grammar else _chrf(outcomes),
    )


def _calibration(outcomes: Sequence[Outcome], params: BenchmarkParams) -> Calibration | None:
    sure = [o.confidence for o in outcomes if o.confidence is not None]
    if len(sure) < len(outcomes):
        return None
    return calibration(sure, [o.exact for o in outcomes], params.bootstrap, params.seed)


def _chrf(outcomes: Sequence[Outcome]) -> float:
    """chrF of free text against its references, as a share, by lm-eval's own metric."""
    from lm_eval.api.metrics import chrf

    return float(chrf([(o.target, o.response) for o in outcomes])) / 100


def _field_counts(outcome: Outcome, name: str, grammar: RecordGrammar | None) -> tuple[int, int, int]:
    wanted = {x for x in items_of(grammar, outcome.target) or () if x[0] == name}
    given = {x for x in items_of(grammar, outcome.response) or () if x[0] == name}
    return len(wanted & given), len(given - wanted), len(wanted - given)


def measure_cost(
    complete_one: Callable[[str], int],
    batch: Callable[[Sequence[str]], int],
    rendered: Sequence[str],
    params: BenchmarkParams,
    size: tuple[int | None, int],
    memory_before: int,
) -> Cost:
    """Latency at batch 1 over evenly spaced held-out prompts, and throughput of one full batch.

    Both callables generate and return the number of tokens. Peak memory is the process's growth since before the
    weights were loaded, so that imports do not count.
    """
    step = max(1, len(rendered) // params.latency_requests)
    chosen = list(rendered[::step][: params.latency_requests])
    complete_one(chosen[0])
    seconds = _timed(complete_one, chosen)
    eights = _timed(batch, [chosen[i : i + 8] for i in range(0, len(chosen) - 7, 8)])
    energy, start = energy_joules(), time.perf_counter()
    full = rendered[: params.batch_size]
    tokens = batch(full)
    elapsed = time.perf_counter() - start
    used = None if energy is None or (after := energy_joules()) is None or after < energy else after - energy
    return Cost(
        latency_p50_s=float(np.percentile(seconds, 50)),
        latency_p95_s=float(np.percentile(seconds, 95)),
        tokens_per_s=tokens / max(elapsed, 1e-9),
        parameters=size[0],
        disk_bytes=size[1],
        peak_memory_bytes=max(0, peak_memory_bytes() - memory_before),
        batch8_p50_s=float(np.percentile(eights, 50)) if eights else None,
        batch8_p95_s=float(np.percentile(eights, 95)) if eights else None,
        tokens_per_request=tokens / len(full),
        joules_per_token=used / tokens if used is not None and tokens else None,
    )


def _timed(run: Callable[[Any], int], requests: Sequence[Any]) -> list[float]:
    seconds = []
    for request in requests:
        start = time.perf_counter()
        run(request)
        seconds.append(time.perf_counter() - start)
    return seconds


def energy_joules() -> float | None:
    """Energy that this machine's processors have used so far, as Linux reports it (RAPL); None where it does not.

    Source: Linux kernel documentation, Power Capping Framework, ``energy_uj``.
    """
    try:
        zones = [p for p in Path("/sys/class/powercap").glob("intel-rapl:*") if p.name.count(":") == 1]
        return sum(int((zone / "energy_uj").read_text(encoding="ascii")) for zone in zones) / 1e6 if zones else None
    except (OSError, ValueError):
        return None


def peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def generator(model: Any, tokenizer: Any, max_tokens: int) -> Callable[[Sequence[str]], int]:
    """Greedy generation of a batch that returns how many tokens it made; what the timings run."""
    import torch

    def run(prompts: Sequence[str]) -> int:
        batch, eos = left_padded(prompts, tokenizer), tokenizer.eos_token_id
        with torch.inference_mode():
            out = model.generate(**batch, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        made = out[:, batch["input_ids"].shape[1] :]
        # Tokens up to and with the first end token; what follows it is padding.
        return int((((made == eos).cumsum(-1) - (made == eos).long()) == 0).sum())

    return run


def disk_bytes(path: str | os.PathLike[str]) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        total += sum(os.path.getsize(os.path.join(folder, f)) for f in files)
    return total


def report_from_json(tree: dict[str, Any]) -> EvalReport:
    """An EvalReport from its JSON form."""
    from pydantic import TypeAdapter

    return TypeAdapter(EvalReport).validate_python(tree)


def report_to_json(report: EvalReport) -> dict[str, Any]:
    return dataclasses.asdict(report)
