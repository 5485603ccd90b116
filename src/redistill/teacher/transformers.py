"""A local teacher on plain transformers: slower than vLLM, runs wherever torch does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from redistill.data.grammars.types import Form
from redistill.models.checkpoints import context_tokens, load_model
from redistill.models.generation import end_ids, generate, up_to_end, without_end
from redistill.models.stopping_criteria import stopping_criteria
from redistill.models.structured_outputs import HeldToForm
from redistill.models.tokenizers import encode, load_tokenizer, tokenizer_digest
from redistill.runtime.precision import dtype_name
from redistill.teacher.endings import LENGTH, STOP
from redistill.teacher.local import does_not_fit, finished
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherAnswer, TeacherCapabilities, TeacherRequest

_BATCH = 32


class TransformersTeacher:
    """``model.generate`` in left-padded batches, longest prompts together."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = load_tokenizer(path)
        self._model = load_model(path, dtype_name())
        self._forms: dict[Form, HeldToForm] = {}
        self._ends, self._context = end_ids(self._model), context_tokens(path)

    def capabilities(self) -> TeacherCapabilities:
        return TeacherCapabilities("score_given_ids", 0, tokenizer_digest(self._tokenizer))

    def complete(self, requests: Sequence[TeacherRequest], params: GenerateParams) -> Iterator[TeacherAnswer]:
        lengths = {id(r): len(encode(r.prompt, self._tokenizer)) for r in requests}
        fitting = []
        for request in requests:
            if self._context is not None and lengths[id(request)] + params.max_tokens > self._context:
                yield does_not_fit(request, lengths[id(request)], params.max_tokens, self._context)
            else:
                fitting.append(request)
        ordered = sorted(fitting, key=lambda r: -lengths[id(r)])
        for start in range(0, len(ordered), _BATCH):
            yield from self._batch(ordered[start : start + _BATCH], params)

    @torch.inference_mode()
    def _batch(self, requests: Sequence[TeacherRequest], params: GenerateParams) -> Iterator[TeacherAnswer]:
        rows = [encode(r.prompt, self._tokenizer) for r in requests]
        options: dict[str, Any] = {}
        if params.temperature > 0:
            torch.manual_seed(params.seed + requests[0].sample_index)
            options = {"do_sample": True, "temperature": params.temperature, "top_p": params.top_p, "top_k": 0}
        criteria = stopping_criteria(self._tokenizer, [r.stop for r in requests], max(map(len, rows)))
        pad_id = self._tokenizer.pad_token_id
        held = None if requests[0].form is None else self._held(requests[0].form).processor(len(rows), keep_steps=True)
        if held is not None:
            options["logits_processor"] = [held]
        made = generate(self._model, rows, pad_id, params.max_tokens, output_logits=True, stopping_criteria=criteria, **options)
        left_out = [None] * len(made.logits) if held is None else held.steps
        logits = [step if out is None else step.masked_fill(out, -torch.inf) for step, out in zip(made.logits, left_out, strict=True)]
        made_NT, logprobs_TNV = made.tokens_NT, [torch.log_softmax(step.float(), -1) for step in logits]
        for i, (request, counts) in enumerate(zip(requests, up_to_end(made_NT, self._ends), strict=True)):
            yield self._answer(request, tuple(made_NT[i][counts].tolist()), [step[i] for step in logprobs_TNV], params.top_k)

    def _held(self, form: Form) -> HeldToForm:
        if form not in self._forms:
            self._forms[form] = HeldToForm(form, self._tokenizer, self._model.config.get_text_config().vocab_size, self._ends)
        return self._forms[form]

    def _answer(self, request: TeacherRequest, ids: tuple[int, ...], logprobs_TV: list[torch.Tensor], top_k: int) -> TeacherAnswer:
        chosen = [float(step[token]) for step, token in zip(logprobs_TV, ids, strict=False)]
        tops = [step.topk(min(top_k, step.shape[-1])) for step in logprobs_TV[: len(ids)]] if top_k else []
        answer = TeacherAnswer(
            request,
            self._tokenizer.decode(without_end(ids, self._ends), skip_special_tokens=True).strip(),
            None,
            ids,
            STOP if ids and ids[-1] in self._ends else LENGTH,
            sum(chosen) / len(chosen) if chosen else None,
            tuple(tuple(t.indices.tolist()) for t in tops),
            tuple(tuple(t.values.tolist()) for t in tops),
        )
        return finished(answer, chosen, self._tokenizer)

    def close(self) -> None:
        del self._model
