"""Which completions may train a student: the filters run one after the other, and the first one that drops a completion decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from redistill.data.grammars.types import Grammar, spelled
from redistill.data.normal_form import normalised
from redistill.data.types import Prompt
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherCompletion
from redistill.validation.content import content_filters
from redistill.validation.filters import completeness, refusal
from redistill.validation.filters.confidence import Confidence
from redistill.validation.filters.format import Format
from redistill.validation.filters.language import Language
from redistill.validation.filters.quoting import QuoteIndex
from redistill.validation.filters.repetition import Repetition
from redistill.validation.params import IntakeParams, ValidateParams
from redistill.validation.types import Candidate, Drop, Filter, Keep, first_objection


def filters_of(grammar: Grammar | None, heldout: Sequence[Prompt], params: ValidateParams, intake: IntakeParams) -> Iterator[Filter]:
    """The filters of a task, in the order in which they are asked."""
    yield completeness.judge
    yield from content_filters(intake)
    yield refusal.judge
    yield Repetition(params.max_repetition).judge
    yield Language(intake).judge if grammar is None else Format(grammar).judge
    yield QuoteIndex([p.text for p in heldout], params.heldout_quote_words).judge
    yield Confidence(params.min_mean_logprob).judge


class CompletionJudge:
    """Judges completions of one cycle against its grammar, its held-out rows and its limits."""

    def __init__(
        self,
        grammar: Grammar | None,
        heldout: Sequence[Prompt],
        params: ValidateParams,
        intake: IntakeParams,
        generate: GenerateParams,
    ) -> None:
        self._grammar = grammar
        self._filters = tuple(filters_of(grammar, heldout, params, intake))
        self._min_agreement, self._samples = params.min_agreement, generate.samples

    def judge(self, prompt: Prompt, samples: Sequence[TeacherCompletion]) -> list[tuple[TeacherCompletion, Keep | Drop]]:
        """A verdict for each sample of one prompt; agreement is judged between them."""
        request = normalised(prompt.text)
        verdicts = [
            (c, first_objection(self._filters, Candidate(normalised(c.text), request, c.finish_reason, c.mean_logprob, c.text)))
            for c in samples
        ]
        kept = [c for c, v in verdicts if isinstance(v, Keep)]
        if self._samples > 1 and kept:
            text, count = Counter(self._spelled(c) for c in kept).most_common(1)[0]
            if count / len(samples) < self._min_agreement:
                return [(c, Drop("agreement", "samples disagree") if isinstance(v, Keep) else v) for c, v in verdicts]
            return [
                (c, Drop("agreement", "minority sample") if isinstance(v, Keep) and self._spelled(c) != text else v) for c, v in verdicts
            ]
        return verdicts

    def _spelled(self, completion: TeacherCompletion) -> str:
        return normalised(spelled(self._grammar, completion.text))
