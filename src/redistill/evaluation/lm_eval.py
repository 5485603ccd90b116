"""One generated lm-eval benchmark, one backend and template for every model compared.

lm-eval generates the completions (``generate_until``, greedy, with the template that serves) and keeps every sample with its document
and prompt hash. Our code scores them (``redistill.evaluation.outcomes``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

from redistill.data.params import DataParams
from redistill.data.stopping import cut, tokens_until_stop
from redistill.data.types import Prompt
from redistill.errors import DataError
from redistill.evaluation.confidence.all_scores import sureness
from redistill.evaluation.outcomes import outcome_of, without_reasoning
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.types import Outcome, Sureness
from redistill.models.generation import end_ids, is_end, up_to_end
from redistill.models.structured_outputs import HeldToForm
from redistill.models.token_trace import greedy_trace, most_likely

TASK = "redistill_heldout"


def run_benchmark(
    model: Any, prompts: Sequence[Prompt], rendered: Sequence[str], data: DataParams, params: BenchmarkParams
) -> list[Outcome]:
    """Run an lm-eval model on every held-out prompt and return one outcome per row, in the order of ``prompts``."""
    rows = [{"prompt_id": p.id, "prompt": r, "target": p.label} for p, r in zip(prompts, rendered, strict=True)]
    by_id = {p.id: p for p in prompts}
    samples = samples_of(model, _generation(TASK, rows, data.stops, params), params)
    if len(samples) != len(prompts):
        raise DataError(f"lm-eval returned {len(samples)} samples for {len(prompts)} held-out rows; run the benchmark again")
    sure_of = getattr(model, "sure_of", lambda _: None)
    outcomes = [outcome_of(s, by_id[s["doc"]["prompt_id"]], data.grammar, sure_of(s["doc"]["prompt"])) for s in samples]
    return _with_free_responses(model, outcomes, list(rendered), data, params)


def _with_free_responses(
    model: Any, outcomes: list[Outcome], rendered: list[str], data: DataParams, params: BenchmarkParams
) -> list[Outcome]:
    """The outcomes with what the model writes where nothing holds it to the form; only rows in which a token was not allowed can differ."""
    was_changed = getattr(model, "changed", lambda _: False)
    changed = [i for i, prompt in enumerate(rendered) if was_changed(prompt)]
    if not changed:
        return outcomes
    with model.free():
        responses = respond(model, [rendered[i] for i in changed], data.stops, params)
    for i, response in zip(changed, responses, strict=True):
        outcomes[i] = replace(outcomes[i], freely=response)
    return outcomes


def respond(model: Any, rendered: Sequence[str], stops: Sequence[str], params: BenchmarkParams) -> list[str]:
    """Greedy responses to prompts that have no target, generated like those to held-out prompts."""
    rows = [{"prompt": r, "target": ""} for r in rendered]
    task = _generation(f"{TASK}_pairs", rows, stops, params)
    return [without_reasoning(str(s["filtered_resps"][0])) for s in samples_of(model, task, params)]


def _generation(task: str, rows: list[dict[str, Any]], stops: Sequence[str], params: BenchmarkParams) -> dict[str, Any]:
    import datasets

    return {
        "task": task,
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
        "test_split": "test",
        "output_type": "generate_until",
        # Columns by name. A template would be compiled again for each row, and a target that looks like a list would become one.
        "doc_to_text": "prompt",
        "doc_to_target": "target",
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

    # After each evaluation lm-eval runs `pip list` to describe the machine. That takes one and a half seconds, and the record is not used here.
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

    class CompletionModel(LM):
        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            lines = complete([r.args[0] for r in requests])
            # An endpoint may not support stop sequences, so its completion is cut here too.
            return [cut(line.strip(), r.args[1]["until"]) for line, r in zip(lines, requests, strict=True)]

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise DataError("this model only writes completions and has no log-likelihoods, so it cannot run this benchmark")

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self.loglikelihood(requests)

    return CompletionModel()


def weights_model(
    model: Any,
    tokenizer: Any,
    params: BenchmarkParams,
    data: DataParams | None = None,
    *,
    batch_size: int | None = None,
    reads: Mapping[str, str] | None = None,
) -> Any:
    """lm-eval's transformers backend around loaded weights; nothing is added to the prompt's tokens.

    It also keeps how sure the model is of each response, without another forward pass. ``data`` says what form responses have; None for other tasks than
    the project's. ``reads`` is for a model that is shown more than the others: what it reads for each prompt. The documents stay those of all models, by
    whose hashes rows are compared.
    """
    import torch
    from lm_eval.models.huggingface import HFLM

    class ScoringModel(HFLM):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self._sure: dict[tuple[int, ...], Sureness] = {}
            self._intervened: set[tuple[int, ...]] = set()
            self._free = held is None

        def _model_generate(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> Any:
            steps: list[tuple[torch.Tensor, torch.Tensor]] = []
            form = None if held is None or self._free else held.processor(context.shape[0])

            def listen(ids_BT: torch.Tensor, scores_BV: torch.Tensor) -> torch.Tensor:
                held_BV = scores_BV if form is None else form(ids_BT, scores_BV)
                steps.append(most_likely(held_BV))
                return held_BV

            out = super()._model_generate(context, max_length, stop, logits_processor=[listen], **kwargs)
            made_BT = out[:, context.shape[1] :]
            counts = up_to_end(made_BT, ends)
            # Likewise up to and with a stop sequence: a batch goes on until all of its rows have ended.
            texts = [s for s in stop if s != self.tok_decode(self.eot_token_id, skip_special_tokens=False)]
            # Without an end, a row goes on to the largest number of tokens.
            stopped_B = is_end(made_BT, ends).any(dim=1)
            for b, (row, made) in enumerate(zip(counts, made_BT.tolist(), strict=True)):
                if (until := tokens_until_stop(made, self.tokenizer, texts)) is not None:
                    row[until:] = False
                    stopped_B[b] = True
            ids_BTK, values_BTK = (torch.stack(part, dim=1)[:, : made_BT.shape[1]] for part in zip(*steps, strict=True))
            mask = kwargs["attention_mask"].bool()
            for b, (row, shown) in enumerate(zip(context, mask, strict=True)):
                kept = counts[b]
                if self._free and held is not None:
                    continue
                tokens, ids, values = (part[b][kept].tolist() for part in (made_BT, ids_BTK, values_BTK))
                asked = tuple(row[shown].tolist())
                sure = sureness(greedy_trace(tokens, ids, values, spell, ends), grammar)
                self._sure[asked] = replace(sure, cut_off=not stopped_B[b].item())
                if form is not None and form.intervened[b]:
                    self._intervened.add(asked)
            # An end token that the tokenizer does not call special would be decoded as text.
            made_BT[is_end(made_BT, ends) | ~counts] = self.eot_token_id
            return out

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            read = [replace(r, arguments=(shown.get(r.args[0], r.args[0]), *r.args[1:])) for r in requests] if shown else requests
            return list(super().generate_until(read, disable_tqdm=disable_tqdm))

        def sure_of(self, prompt: str) -> Sureness | None:
            return self._sure.get(tuple(self.tok_encode(shown.get(prompt, prompt))))

        def changed(self, prompt: str) -> bool:
            """Whether being held to the form changed the response."""
            return tuple(self.tok_encode(shown.get(prompt, prompt))) in self._intervened

        @contextmanager
        def free(self) -> Iterator[None]:
            """Responses in this block are held to nothing."""
            self._free = True
            try:
                yield
            finally:
                self._free = held is None

    shown = reads or {}
    batch_size, ends = batch_size or params.batch_size, end_ids(model)
    grammar, form = (None, None) if data is None else (data.grammar, data.form)
    held = None if form is None else HeldToForm(form, tokenizer, model.config.get_text_config().vocab_size, ends)

    @cache
    def spell_one(token: int) -> str:
        return str(tokenizer.decode([token]))

    def spell(ids: Sequence[int]) -> str:
        return spell_one(ids[0]) if len(ids) == 1 else str(tokenizer.decode(ids))

    return ScoringModel(
        pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu", add_bos_token=False, trust_remote_code=False
    )
