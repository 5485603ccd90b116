"""Completions held to the form of the task: at each step the model may choose only tokens with which a valid completion can continue.

Probabilities are those among the allowed tokens. vLLM reports the same: it removes the other tokens before it computes logprobs. So where only one token is
allowed, its probability is 1, and confidence depends on the tokens at which there was a choice.

Source: Dong et al. 2024, "XGrammar: Flexible and Efficient Structured Generation Engine for Large Language Models" (arXiv 2411.15100).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from redistill.data.grammars.types import Form
from redistill.errors import ConfigError

if TYPE_CHECKING:
    import torch


def as_ebnf(form: Form) -> str:
    """The form as a grammar in EBNF, with what comes before a completion. vLLM and transformers are given the same one.

    Raises:
        ConfigError: the schema has a part that cannot be turned into a grammar, or xgrammar is not installed.
    """
    try:
        import xgrammar
    except ImportError:
        raise ConfigError("data.structured_outputs needs the package xgrammar, which is not installed; install the extra `train`") from None
    try:
        if form.kind == "json_schema":
            # Not strict: keys that a schema does not name are allowed, as JSON Schema has it.
            grammar = xgrammar.Grammar.from_json_schema(form.text, any_whitespace=False, separators=(", ", ": "), strict_mode=False)
        else:
            grammar = xgrammar.Grammar.from_ebnf(form.text)
        lead = [xgrammar.Grammar.from_ebnf(f"root ::= {json.dumps(form.lead)}")] if form.lead else []
        return str(xgrammar.Grammar.concat(*lead, grammar))
    except RuntimeError as error:
        # It begins with a time and a place in the library.
        reason = " ".join(str(error).rpartition(".cc:")[2].partition(": ")[2].split())[:200]
        raise ConfigError(
            f"data.structured_outputs cannot hold completions to this form ({reason}); simplify data.schema, or turn it off"
        ) from None


def allows(form: Form, texts: Sequence[str]) -> list[bool]:
    """Which completions could be written under the form; without what stands before them.

    Raises:
        ConfigError: as ``as_ebnf``.
    """
    grammar = as_ebnf(replace(form, lead=""))
    import xgrammar

    compiled = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo([]), max_threads=1).compile_grammar(grammar)
    matcher, allowed = xgrammar.GrammarMatcher(compiled, terminate_without_stop_token=True), list[bool]()
    for text in texts:
        matcher.reset()
        allowed.append(bool(matcher.accept_string(text)) and bool(matcher.is_completed()))
    return allowed


class HeldToForm:
    """Makes a processor for each call of ``model.generate``, for one form and one model.

    ``width`` is the number of logits of the model, which may be more than its tokenizer has tokens.
    """

    def __init__(self, form: Form, tokenizer: Any, width: int, end_ids: Sequence[int]) -> None:
        grammar = as_ebnf(form)
        import xgrammar

        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=width, stop_token_ids=list(end_ids))
        self._compiled = xgrammar.GrammarCompiler(info, max_threads=1).compile_grammar(grammar)
        self._width = width

    def processor(self, rows: int, *, keep_steps: bool = False) -> FormProcessor:
        return FormProcessor(self._compiled, rows, self._width, keep_steps=keep_steps)


class FormProcessor:
    """A logits processor for one batch.

    ``intervened`` says of each row whether the model's own most likely token was ever not allowed. ``steps``, if they are kept, say of each step which tokens
    were left out ([B, V]), None where none were.
    """

    def __init__(self, compiled: Any, rows: int, width: int, *, keep_steps: bool) -> None:
        import xgrammar

        self._matchers = [xgrammar.GrammarMatcher(compiled) for _ in range(rows)]
        self._open = [True] * rows
        self._mask = xgrammar.allocate_token_bitmask(rows, width)
        self._begun, self._keep_steps = False, keep_steps
        self.intervened = [False] * rows
        self.steps: list[torch.Tensor | None] = []

    def __call__(self, input_ids: torch.Tensor, scores_BV: torch.Tensor) -> torch.Tensor:
        import torch
        import xgrammar

        if self._begun:
            for i, token in enumerate(input_ids[:, -1].tolist()):
                # A row that a stop sequence ended is padded, and padding is not accepted.
                self._open[i] = self._open[i] and self._matchers[i].accept_token(token) and not self._matchers[i].is_terminated()
        self._begun = True
        rows = [i for i, is_open in enumerate(self._open) if is_open]
        if not rows:
            if self._keep_steps:
                self.steps.append(None)
            return scores_BV
        for i in rows:
            self._matchers[i].fill_next_token_bitmask(self._mask, i)
        # A copy: transformers also returns the scores as they are.
        likeliest = scores_BV.argmax(-1)
        held_BV = scores_BV.to("cpu", torch.float32, copy=True)
        xgrammar.apply_token_bitmask_inplace(held_BV, self._mask, indices=rows)
        held_BV = held_BV.to(scores_BV)
        for i in rows:
            self.intervened[i] = self.intervened[i] or bool(held_BV[i, likeliest[i]] == float("-inf"))
        if self._keep_steps:
            self.steps.append(held_BV == float("-inf"))
        return held_BV
