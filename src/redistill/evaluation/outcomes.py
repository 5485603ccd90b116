"""One model on one held-out row: what is counted on its response."""

from __future__ import annotations

import functools
from typing import Any

from redistill.data.grammars.types import Grammar, Items, spelled
from redistill.data.normal_form import normalised
from redistill.data.types import Prompt
from redistill.errors import DataError
from redistill.evaluation.types import Objection, Outcome, Sureness
from redistill.teacher.reasoning import split_reasoning, unfinished


@functools.lru_cache(maxsize=1 << 16)
def items_of(grammar: Grammar | None, line: str) -> Items | None:
    """The (field, value) pairs of a completion; None if it breaks the grammar. Free text is one item."""
    if grammar is None:
        return frozenset({("text", normalised(line.strip()))})
    try:
        return grammar.items(line)
    except DataError:
        return None


def without_reasoning(response: str) -> str:
    """The response as a caller gets it; empty where the model did not stop reasoning."""
    return "" if unfinished(response) else split_reasoning(response)[1].strip()


def objection(grammar: Grammar | None, response: str, message: str, *, cut_off: bool = False) -> tuple[Objection, str]:
    """Why a response cannot be used, whatever its label is, and in words; both empty if it can. It needs no label, so production asks the same question.

    Args:
        response: as a caller gets it (``without_reasoning``). Of free text (grammar None) nothing can be said.
        message: ``Prompt.text``.
    """
    if grammar is None:
        return "", ""
    if cut_off:
        return "cut-off", "the completion is longer than max_tokens"
    why = grammar.objection(response, message)
    return ("", "") if why is None else ("malformed", why)


def outcome_of(sample: dict[str, Any], prompt: Prompt, grammar: Grammar | None, sure: Sureness | None = None) -> Outcome:
    """``sure`` is what the model reported about the response; None if it reports nothing."""
    written = without_reasoning(str(sample["filtered_resps"][0]))
    response = spelled(grammar, written)
    target = prompt.label or ""
    expected = items_of(grammar, target) or frozenset()
    predicted = items_of(grammar, response) or frozenset()
    return Outcome(
        prompt_id=prompt.id,
        doc_hash=sample["doc_hash"],
        prompt_hash=sample["prompt_hash"],
        slice=prompt.slice,
        target=target,
        response=response,
        exact=normalised(response) == normalised(target),
        true_positives=len(expected & predicted),
        false_positives=len(predicted - expected),
        false_negatives=len(expected - predicted),
        confidence=None if sure is None else sure.probability,
        confidences=() if sure is None else sure.confidences,
        objection=objection(grammar, written, prompt.text, cut_off=sure is not None and sure.cut_off)[0],
    )
