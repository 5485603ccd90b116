"""A local teacher on vLLM's offline engine.

The engine is started once a stage: importing and loading it costs tens of seconds. ``flat_logprobs`` and
``detokenize=False`` keep it from building a Python object per listed token, which costs far more than the arithmetic.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from redistill.data.grammars.types import Form
from redistill.io.json import read_json
from redistill.models.checkpoints import context_tokens, end_ids_of
from redistill.models.generation import without_end
from redistill.models.structured_outputs import as_ebnf
from redistill.models.tokenizers import encode, load_tokenizer, tokenizer_digest, vocabulary_size
from redistill.runtime.environment import vllm_environment
from redistill.runtime.precision import dtype_name, training_device
from redistill.teacher.local import does_not_fit, finished
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherAnswer, TeacherCapabilities, TeacherRequest

_KV_BYTES = 512 << 20
_SHORTEST, _STEP = 2048, 256
"""Tokens of the shortest engine, and in what steps a longer one grows."""


class VllmTeacher:
    """vLLM on a checkpoint directory; greedy or sampled, with or without top-k log-probabilities.

    The engine starts with the first requests, because its memory depends on the longest one. ``context`` is the longest sequence in tokens; left out, what
    the model reads.
    """

    def __init__(self, path: Path, context: int | None = None) -> None:
        # Set before the import: vLLM reads them while it loads.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        for name, value in vllm_environment(training_device()).items():
            os.environ.setdefault(name, value)
        self._path, self._context = path, context or context_tokens(path)
        self._tokenizer, self._ends = load_tokenizer(path), end_ids_of(path)
        self._stop_ids: dict[tuple[tuple[str, ...], bool], list[int]] = {}
        self._grammars: dict[Form, str] = {}
        self._names = itertools.count()
        self._llm: Any = None
        self._length = 0

    def _start(self, longest: int) -> None:
        """Start an engine for sequences of so many tokens, if there is none yet."""
        if longest <= self._length:
            return
        from vllm import LLM

        length = max(_SHORTEST, -(-longest // _STEP) * _STEP)
        self._llm, self._length = None, min(length, self._context or length)
        device = training_device()
        self._llm = LLM(
            model=str(self._path),
            trust_remote_code=False,
            dtype=dtype_name(device=device),
            max_model_len=self._length,
            enforce_eager=True,
            # On a GPU vLLM takes the memory that is free.
            kv_cache_memory_bytes=_kv_bytes(self._path, self._length) if device == "cpu" else None,
            max_logprobs=-1,
            max_num_batched_tokens=max(2048, self._length),
            max_num_seqs=64,
            disable_log_stats=True,
            # Not "auto", which takes sampling defaults from the checkpoint; its end tokens are given with every request.
            generation_config="vllm",
        )

    def capabilities(self) -> TeacherCapabilities:
        return TeacherCapabilities("score_given_ids", 0, tokenizer_digest(self._tokenizer))

    def complete(self, requests: Sequence[TeacherRequest], params: GenerateParams) -> Iterator[TeacherAnswer]:
        """Yield each completion as soon as it ends. The next request then takes its place, so that the engine always has a full batch."""
        lengths = [len(encode(r.prompt, self._tokenizer)) for r in requests]
        fitting, longest = [], 0
        for request, length in zip(requests, lengths, strict=True):
            if self._context is not None and length + params.max_tokens > self._context:
                yield does_not_fit(request, length, params.max_tokens, self._context)
            else:
                fitting.append(request)
                longest = max(longest, length + params.max_tokens)
        if fitting:
            self._start(longest)
            yield from self._complete(fitting, params)

    def _complete(self, requests: Sequence[TeacherRequest], params: GenerateParams) -> Iterator[TeacherAnswer]:
        engine, to_come, asked = self._llm.llm_engine, iter(requests), dict[str, TeacherRequest]()
        try:
            while True:
                for request in itertools.islice(to_come, params.batch_rows - len(asked)):
                    name = str(next(self._names))
                    asked[name] = request
                    engine.add_request(name, self._prompt(request), self._sampling(request, params))
                if not asked:
                    return
                for result in engine.step():
                    if result.finished:
                        yield self._answer(asked.pop(result.request_id), result.outputs[0], params.top_k)
        finally:
            if asked:
                engine.abort_request(list(asked))

    def _prompt(self, request: TeacherRequest) -> Any:
        from vllm.inputs import tokens_input

        return tokens_input(encode(request.prompt, self._tokenizer))

    def _sampling(self, request: TeacherRequest, params: GenerateParams) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        return SamplingParams(
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=0,
            min_p=0.0,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            max_tokens=params.max_tokens,
            seed=params.seed + request.sample_index,
            # vLLM always gives the logprob of the chosen token; this is how many others it lists beside it.
            logprobs=params.top_k,
            flat_logprobs=True,
            detokenize=False,
            stop_token_ids=[*self._ends, *self._stopping(request.stop, held=request.form is not None)],
            output_kind=RequestOutputKind.FINAL_ONLY,
            # Its logprobs are those among the allowed tokens: vLLM removes the others before it computes them.
            structured_outputs=None if request.form is None else StructuredOutputsParams(grammar=self._grammar(request.form)),
        )

    def _answer(self, request: TeacherRequest, output: Any, top_k: int) -> TeacherAnswer:
        ids = tuple(int(i) for i in output.token_ids)
        listed = output.logprobs
        chosen = [listed.logprobs[start] for start in listed.start_indices]
        top_ids: tuple[tuple[int, ...], ...] = ()
        top_lp: tuple[tuple[float, ...], ...] = ()
        if top_k:
            spans = list(zip(listed.start_indices, listed.end_indices, strict=True))
            top_ids = tuple(tuple(listed.token_ids[a:b]) for a, b in spans)
            top_lp = tuple(tuple(listed.logprobs[a:b]) for a, b in spans)
        text = self._tokenizer.decode(without_end(ids, self._ends), skip_special_tokens=True).strip()
        mean = float(np.mean(chosen)) if chosen else None
        answer = TeacherAnswer(request, text, None, ids, output.finish_reason or "", mean, top_ids, top_lp)
        return finished(answer, chosen, self._tokenizer)

    def _grammar(self, form: Form) -> str:
        if form not in self._grammars:
            self._grammars[form] = as_ebnf(form)
        return self._grammars[form]

    def _stopping(self, stops: tuple[str, ...], *, held: bool) -> list[int]:
        """Tokens that hold a whole stop sequence. One that lies across tokens is cut out afterwards; to look for it needs text at every step.

        A completion that is ``held`` to a form may end with any of them, so there only those count that begin with the stop sequence.
        """
        key = (stops, held)
        if key not in self._stop_ids:
            texts = self._tokenizer.batch_decode([[i] for i in range(vocabulary_size(self._tokenizer))]) if stops else []
            ends = str.startswith if held else str.__contains__
            self._stop_ids[key] = [i for i, text in enumerate(texts) if any(ends(text, stop) for stop in stops)]
        return self._stop_ids[key]

    def close(self) -> None:
        del self._llm


def _kv_bytes(path: Path, length: int) -> int:
    """Memory for keys and values on a CPU: at least two sequences of the longest length, in float32."""
    tree = read_json(path / "config.json")
    heads = tree.get("num_key_value_heads") or tree["num_attention_heads"]
    width = tree.get("head_dim") or tree["hidden_size"] // tree["num_attention_heads"]
    return max(_KV_BYTES, 2 * length * 2 * int(tree["num_hidden_layers"]) * int(heads) * int(width) * 4)
