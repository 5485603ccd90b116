"""Which completions may train a student: one judgement after the other, the first objection counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from redistill.data.record_grammar import RecordGrammar
from redistill.data.types import Prompt
from redistill.errors import DataError
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherCompletion
from redistill.validation.filters import language, personal_data, profanity, quoting, refusal, repetition, secrets
from redistill.validation.params import IntakeParams, ValidateParams
from redistill.validation.types import Drop, Keep


class CompletionJudge:
    """Judges completions of one cycle against its grammar, its held-out rows and its limits."""

    def __init__(
        self,
        grammar: RecordGrammar | None,
        heldout: Sequence[Prompt],
        params: ValidateParams,
        intake: IntakeParams,
        generate: GenerateParams,
    ) -> None:
        self._grammar = grammar
        self._params = params
        self._intake = intake
        self._samples = generate.samples
        self._quotes = quoting.QuoteIndex([p.text for p in heldout], params.heldout_quote_words)

    def judge(self, prompt: Prompt, samples: Sequence[TeacherCompletion]) -> list[tuple[TeacherCompletion, Keep | Drop]]:
        """A verdict for each sample of one prompt; agreement is judged between them."""
        verdicts = [(c, self._one(prompt, c)) for c in samples]
        alive = [c for c, v in verdicts if isinstance(v, Keep)]
        if self._samples > 1 and alive:
            text, count = Counter(c.text for c in alive).most_common(1)[0]
            if count / len(samples) < self._params.min_agreement:
                return [(c, Drop("agreement", "samples disagree") if isinstance(v, Keep) else v) for c, v in verdicts]
            return [(c, Drop("agreement", "minority sample") if isinstance(v, Keep) and c.text != text else v) for c, v in verdicts]
        return verdicts

    def _one(self, prompt: Prompt, completion: TeacherCompletion) -> Keep | Drop:
        text = completion.text
        if not text.strip():
            return Drop("length", "empty completion")
        if completion.finish_reason == "length":
            return Drop("length", "cut off at max_tokens")
        for verdict in (
            personal_data.judge(text) if self._intake.pii else Keep(),
            secrets.judge(text) if self._intake.secrets else Keep(),
            profanity.judge(text) if self._intake.profanity else Keep(),
            refusal.judge(text),
            repetition.judge(text, self._params.max_repetition),
            self._format(prompt, text),
            self._quotes.judge(text, prompt.text),
        ):
            if isinstance(verdict, Drop):
                return verdict
        if completion.mean_logprob is not None and completion.mean_logprob < self._params.min_mean_logprob:
            return Drop("confidence", "mean log-probability too low")
        return Keep()

    def _format(self, prompt: Prompt, text: str) -> Keep | Drop:
        if self._grammar is None:
            return language.judge(text, self._intake)
        try:
            record = self._grammar.parse(text)
        except DataError:
            return Drop("format", "malformed record or unlisted label")
        try:
            self._grammar.check_grounded(record, prompt.text)
        except DataError:
            return Drop("format", "entity not in the message")
        return Keep()
