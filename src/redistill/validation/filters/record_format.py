"""Is a completion a record of the task, and does what it extracts occur in the message?"""

from __future__ import annotations

from redistill.data.record_grammar import RecordGrammar
from redistill.errors import DataError
from redistill.validation.types import Candidate, Drop, Keep


class RecordFormat:
    """Drops completions that the grammar cannot parse, and records with an entity that the message does not hold."""

    def __init__(self, grammar: RecordGrammar) -> None:
        self._grammar = grammar

    def judge(self, candidate: Candidate) -> Keep | Drop:
        try:
            record = self._grammar.parse(candidate.text)
        except DataError:
            return Drop("format", "malformed record or unlisted label")
        try:
            self._grammar.check_grounded(record, candidate.prompt)
        except DataError:
            return Drop("format", "entity not in the message")
        return Keep()
