"""Which completions may train a student: one verdict each, the first objection counts, samples are judged together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from redistill.data.grammars.record import RecordGrammar
from redistill.data.types import Message, Prompt
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherCompletion
from redistill.validation.completions import CompletionJudge
from redistill.validation.params import IntakeParams, ValidateParams
from redistill.validation.types import Drop, Keep

GRAMMAR = RecordGrammar(("card_lost", "fee", "fraud"), ("urgent",), ("amount", "merchant"), several=True)
TEXT = "Oakmart took £42.50 twice and I lost my card, please hurry"
HELDOUT = "I have been waiting since Monday for the money that the shop on the corner owes me"


def prompt(text: str = TEXT) -> Prompt:
    return Prompt.of((Message("user", text),), "row", "app", None, "test")


def said(text: str, sample: int = 0, finish: str = "stop", mean_logprob: float | None = -0.1) -> TeacherCompletion:
    return TeacherCompletion("p", sample, text, None, (1, 2), finish, "t", mean_logprob)


def judge_of(
    grammar: RecordGrammar | None = GRAMMAR, samples: int = 1, intake: IntakeParams | None = None, **params: Any
) -> CompletionJudge:
    heldout = [prompt(HELDOUT)]
    return CompletionJudge(grammar, heldout, ValidateParams(**params), intake or IntakeParams(), GenerateParams(samples=samples))


def verdict(completion: TeacherCompletion, asked: Prompt | None = None, judge: CompletionJudge | None = None) -> Keep | Drop:
    [(same, found)] = (judge or judge_of()).judge(asked or prompt(), [completion])
    assert same is completion
    return found


@pytest.mark.parametrize("text", ["fee", "card_lost+fee; urgent; amount=£42.50; merchant=Oakmart", "fraud; merchant=Oakmart"])
def test_a_sound_completion_is_kept(text: str) -> None:
    assert verdict(said(text)) == Keep()


DROPPED = {
    "": ("length", "empty completion"),
    " \n\t": ("length", "empty completion"),
    "the customer is cross about a fee": ("format", "malformed record or unlisted label"),
    "loan": ("format", "malformed record or unlisted label"),
    "fee+card_lost": ("format", "malformed record or unlisted label"),
    "fee; amount=£42.50; urgent": ("format", "malformed record or unlisted label"),
    "fee; amount=": ("format", "malformed record or unlisted label"),
    "fee\nfraud": ("format", "malformed record or unlisted label"),
    "fee; amount=£42": None,
    "fee; amount=£24.50": ("format", "entity not in the message"),
    "fee; merchant=oakmart": ("format", "entity not in the message"),
    "fee; merchant=4111 1111 1111 1111": ("personal_data", "payment card"),
    "fee; merchant=me@example.org": ("personal_data", "e-mail address"),
    "fee; merchant=AKIAIOSFODNN7EXAMPLE": ("secrets", "AWS access key"),
    "fee, you bastards": ("profanity", "insult"),
    "I'm sorry, but I cannot help with that.": ("refusal", "refuses to answer"),
    "As an AI language model I have no card.": ("refusal", "speaks as an AI model"),
    "fee fee fee fee fee fee fee": ("repetition", "repeats itself"),
}


@pytest.mark.parametrize(("text", "why"), DROPPED.items(), ids=[repr(t)[:24] for t in DROPPED])
def test_an_unsound_completion_is_dropped_for_what_it_is(text: str, why: tuple[str, str] | None) -> None:
    # A shorter amount that stands in the message as part of a longer one counts as grounded: it was copied.
    assert verdict(said(text)) == (Drop(*why) if why else Keep())


@pytest.mark.parametrize("text", ["fee", "fee; amount=£42", "the cust"])
def test_what_was_cut_off_is_dropped_even_where_it_reads_well(text: str) -> None:
    assert verdict(said(text, finish="length")) == Drop("length", "cut off at max_tokens")


@pytest.mark.parametrize(
    ("finish", "why"),
    [
        ("content_filter", ("length", "ended by content_filter")),
        ("SAFETY", ("length", "ended by safety")),
        ("MAX_TOKENS", ("length", "cut off at max_tokens")),
        ("model_length", ("length", "cut off at max_tokens")),
        ("tool_calls", ("length", "ended by tool_calls")),
        ("unknown", ("length", "the endpoint does not say how it ended")),
        ("unfinished reasoning", ("length", "reasoning without an end")),
        ("eos_token", None),
        ("COMPLETE", None),
    ],
)
def test_only_a_known_end_is_one(finish: str, why: tuple[str, str] | None) -> None:
    assert verdict(said("fee", finish=finish)) == (Drop(*why) if why else Keep())


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("refused", "the endpoint refuses the prompt"),
        ("failed", "the endpoint fails on the prompt"),
        ("too long", "the prompt does not fit the teacher's context"),
    ],
)
def test_a_prompt_without_a_completion_is_a_drop_with_its_reason(finish: str, reason: str) -> None:
    assert verdict(said("", finish=finish)) == Drop("teacher", reason)


@pytest.mark.parametrize(("mean", "kept"), [(-0.99, True), (-1.0, True), (-1.01, False), (float("-inf"), False), (None, True)])
def test_a_teacher_that_guesses_is_not_believed(mean: float | None, kept: bool) -> None:
    wanted = Keep() if kept else Drop("confidence", "mean log-probability too low")
    assert verdict(said("fee", mean_logprob=mean)) == wanted
    assert verdict(said("fee", mean_logprob=mean), judge=judge_of(min_mean_logprob=-2000.0)) == (
        wanted if mean == float("-inf") else Keep()
    )


def test_the_first_objection_counts() -> None:
    assert verdict(said("fee; merchant=me@example.org", mean_logprob=-9.0)) == Drop("personal_data", "e-mail address")
    assert verdict(said("", finish="length")) == Drop("length", "empty completion")
    assert verdict(said("loan", mean_logprob=-9.0)) == Drop("format", "malformed record or unlisted label")


def test_a_quote_of_a_held_out_row_is_dropped_unless_it_was_in_the_own_prompt() -> None:
    judge = judge_of(grammar=None)
    told = "She wrote: Waiting since Monday, for the money that the shop owes."
    assert verdict(said(told), prompt("summarise her letter"), judge) == Drop("decontamination", "quotes a held-out row")
    assert verdict(said(told), prompt("summarise: waiting since monday for the money that the shop says it sent"), judge) == Keep()
    assert verdict(said("She has been waiting since Monday for a shop to pay."), prompt("summarise her letter"), judge) == Keep()
    strict = judge_of(grammar=None, heldout_quote_words=3)
    assert verdict(said("She waits, waiting since Monday."), prompt("summarise"), strict) == Drop(
        "decontamination", "quotes a held-out row"
    )


def test_free_text_is_judged_by_language_instead_of_grammar() -> None:
    judge, asked = judge_of(grammar=None), prompt("what is the fee for")
    assert verdict(said("The fee is charged once a month for the account."), asked, judge) == Keep()
    assert verdict(said("Die Gebühr wird einmal im Monat für das Konto berechnet."), asked, judge) == Drop("language", "de")
    either = judge_of(grammar=None, intake=IntakeParams(languages=("en", "de")))
    assert verdict(said("Die Gebühr wird einmal im Monat für das Konto berechnet."), asked, either) == Keep()


@pytest.mark.parametrize(
    ("switch", "text"), [("pii", "write to me@example.org"), ("secrets", "key AKIAIOSFODNN7EXAMPLE"), ("profanity", "you bastards")]
)
def test_intake_switches_hold_for_completions_too(switch: str, text: str) -> None:
    off = judge_of(grammar=None, intake=IntakeParams(**{switch: False}))
    assert isinstance(verdict(said(text), judge=judge_of(grammar=None)), Drop)
    assert verdict(said(text), judge=off) == Keep()


def samples(*texts: str) -> list[TeacherCompletion]:
    return [said(text, number) for number, text in enumerate(texts)]


MINORITY, DISAGREE = Drop("agreement", "minority sample"), Drop("agreement", "samples disagree")
FORMAT = Drop("format", "malformed record or unlisted label")


@pytest.mark.parametrize(
    ("texts", "verdicts"),
    [
        (["fee", "fee", "fee"], [Keep(), Keep(), Keep()]),
        (["fee", "fraud", "fee"], [Keep(), MINORITY, Keep()]),
        (["fraud", "fee", "card_lost"], [DISAGREE] * 3),
        (["fee", "fraud", "fraud", "fee"], [Keep(), MINORITY, MINORITY, Keep()]),
        (["nonsense", "fee", "fee"], [FORMAT, Keep(), Keep()]),
        (["nonsense", "nonsense", "fee"], [FORMAT, FORMAT, DISAGREE]),
        (["nonsense", "more of it", "loan"], [FORMAT] * 3),
        (["fee"], [Keep()]),
    ],
)
def test_samples_are_judged_together(texts: list[str], verdicts: list[Keep | Drop]) -> None:
    given = samples(*texts)
    judged = judge_of(samples=3, min_agreement=0.5).judge(prompt(), given)
    assert [c for c, _ in judged] == given
    assert [v for _, v in judged] == verdicts


def test_the_limit_of_agreement_is_a_share_of_all_samples() -> None:
    given = samples("fee", "fee", "fraud", "card_lost")
    assert [v for _, v in judge_of(samples=4, min_agreement=0.5).judge(prompt(), given)][:2] == [Keep(), Keep()]
    assert [v for _, v in judge_of(samples=4, min_agreement=0.51).judge(prompt(), given)] == [DISAGREE] * 4
    assert [v for _, v in judge_of(samples=4, min_agreement=0.0).judge(prompt(), given)] == [Keep(), Keep(), MINORITY, MINORITY]


def test_one_sample_is_never_asked_to_agree_and_no_sample_is_no_verdict() -> None:
    assert verdict(said("fee"), judge=judge_of(samples=1, min_agreement=1.0)) == Keep()
    assert judge_of(samples=3).judge(prompt(), []) == []


def test_judging_changes_nothing() -> None:
    given = samples("fee", "fraud", "fee")
    before = [replace(c) for c in given]
    judge = judge_of(samples=3)
    assert judge.judge(prompt(), given) == judge.judge(prompt(), given) and given == before
