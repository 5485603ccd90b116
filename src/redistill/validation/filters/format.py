"""Does a completion have the form of the task, and does a record extract only what the message holds?"""

from __future__ import annotations

from redistill.data.grammars.types import Grammar
from redistill.validation.types import Candidate, Drop, Keep


class Format:
    """Drops completions that break the grammar of the task, with the first reason."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar

    def judge(self, candidate: Candidate) -> Keep | Drop:
        reason = self._grammar.objection(candidate.written or candidate.text, candidate.prompt)
        return Keep() if reason is None else Drop("format", reason)
