"""How good is it: one generated lm-eval benchmark, one backend and template for every model compared.

lm-eval asks (``generate_until``, greedy, the template that serves) and keeps every sample with its document and prompt
hash; what is counted on a sample is ours: exact match of the record, and F1 over its fields.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redistill.calibration import calibration
from redistill.checkpoints import left_padded
from redistill.config import BenchmarkParams, DataParams
from redistill.errors import DataError
from redistill.generation import end_ids, is_end, up_to_end
from redistill.grammar import RecordGrammar
from redistill.records import Calibration, Cost, EvalReport, Outcome, Prompt
from redistill.row_scores import chrf_scores
from redistill.statistics import bootstrap_f1, share
from redistill.stopping import cut, tokens_until_stop

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
    samples = samples_of(model, _generation(TASK, rows, data.stops, params), params)
    if len(samples) != len(prompts):
        raise DataError(f"lm-eval returned {len(samples)} samples for {len(prompts)} held-out rows")
    sure = getattr(model, "confidence_of", lambda _: None)
    return [outcome_of(s, by_id[s["doc"]["prompt_id"]], data.grammar, sure(s["doc"]["prompt"])) for s in samples]


def respond(model: Any, rendered: Sequence[str], stops: Sequence[str], params: BenchmarkParams) -> list[str]:
    """Greedy responses to prompts that have no target, asked just as the held-out ones are."""
    rows = [{"prompt": r, "target": ""} for r in rendered]
    task = _generation(f"{TASK}_pairs", rows, stops, params)
    return [str(s["filtered_resps"][0]).strip() for s in samples_of(model, task, params)]


def _generation(task: str, rows: list[dict[str, Any]], stops: Sequence[str], params: BenchmarkParams) -> dict[str, Any]:
    import datasets

    return {
        "task": task,
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{target}}",
        "generation_kwargs": {"until": list(stops), "do_sample": False, "max_gen_toks": params.max_tokens},
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
            lines = complete([r.args[0] for r in requests])
            # An endpoint may have no stop sequences; what it is asked for ends there all the same.
            return [cut(line.strip(), r.args[1]["until"]) for line, r in zip(lines, requests, strict=True)]

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
            counts = up_to_end(made_BT, ends)
            # Likewise up to and with a stop sequence: a batch goes on until all of its rows have ended.
            texts = [s for s in stop if s != self.tok_decode(self.eot_token_id, skip_special_tokens=False)]
            for row, made in zip(counts, made_BT.tolist(), strict=True):
                if (until := tokens_until_stop(made, self.tokenizer, texts)) is not None:
                    row[until:] = False
            sums = (torch.stack(chosen_TB, dim=1)[:, : made_BT.shape[1]] * counts).sum(-1).exp()
            mask = kwargs["attention_mask"].bool()
            for row, given, sure in zip(context, mask, sums.tolist(), strict=True):
                self._sure[tuple(row[given].tolist())] = min(1.0, sure)
            # An end token that the tokenizer does not call special would be decoded as text.
            made_BT[is_end(made_BT, ends) | ~counts] = self.eot_token_id
            return out

        def confidence_of(self, prompt: str) -> float | None:
            return self._sure.get(tuple(self.tok_encode(prompt)))

    batch_size, ends = batch_size or params.batch_size, end_ids(model)
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
    """Mean chrF of the rows of free text, as the gates compare them."""
    return float(np.mean(chrf_scores([(o.target, o.response) for o in outcomes])))


def _field_counts(outcome: Outcome, name: str, grammar: RecordGrammar | None) -> tuple[int, int, int]:
    wanted = {x for x in items_of(grammar, outcome.target) or () if x[0] == name}
    given = {x for x in items_of(grammar, outcome.response) or () if x[0] == name}
    return len(wanted & given), len(given - wanted), len(wanted - given)


def generator(model: Any, tokenizer: Any, tokens: int) -> Callable[[Sequence[str]], int]:
    """Greedy generation of a batch, exactly ``tokens`` for each row; returns how many it made in all. This is what is timed."""
    import torch

    def run(prompts: Sequence[str]) -> int:
        batch = left_padded(prompts, tokenizer)
        with torch.inference_mode():
            out = model.generate(
                **batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        return int(out[:, batch["input_ids"].shape[1] :].numel())

    return run


def disk_bytes(path: str | os.PathLike[str]) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        total += sum(os.path.getsize(os.path.join(folder, f)) for f in files)
    return total


def report_from_json(tree: dict[str, Any]) -> EvalReport:
    """An EvalReport from its JSON form.

    Earlier versions wrote a calibration error with an interval that did not cover the truth; of their reports that part is left out.
    """
    from pydantic import TypeAdapter

    if "ece" in (tree.get("calibration") or {}):
        tree = {**tree, "calibration": None}
    return TypeAdapter(EvalReport).validate_python(tree)


def report_to_json(report: EvalReport) -> dict[str, Any]:
    return dataclasses.asdict(report)
