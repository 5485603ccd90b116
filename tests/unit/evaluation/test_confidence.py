"""Scores of how sure a model is, on traces whose values can be computed by hand."""

from __future__ import annotations

import math

import pytest

from redistill.data.grammars.record import RecordGrammar
from redistill.evaluation.confidence.all_scores import SCORES, confidences
from redistill.models.token_trace import TokenTrace, greedy_trace, most_likely

GRAMMAR = RecordGrammar(("card_lost", "card_stolen", "fee", "fraud"), ("urgent",), ("amount",), True)


def trace(*tokens: tuple[str, dict[str, float]]) -> TokenTrace:
    """Tokens with their alternatives as probabilities, the chosen one first. An empty text is the end token."""
    text, ends = "", []
    for token, _ in tokens:
        text += token
        ends.append(len(text))
    top = tuple(tuple((name, math.log(p)) for name, p in options.items()) for _, options in tokens)
    return TokenTrace(text, tuple(ends), tuple(row[0][1] for row in top), top)


RECORD = trace(
    (" card", {" card": 0.6, " fee": 0.3, " x": 0.1}),
    ("_", {"_": 1.0}),
    ("lost", {"lost": 0.8, "stolen": 0.2}),
    ("; ", {"; ": 0.9, "+": 0.1}),
    ("amount", {"amount": 0.7, "urgent": 0.3}),
    ("=", {"=": 1.0}),
    ("£4", {"£4": 0.95, "£5": 0.05}),
    ("", {"": 0.5, ".": 0.4}),
)


def of(trace: TokenTrace | None, grammar: RecordGrammar | None = GRAMMAR) -> dict[str, float]:
    return {c.score: c.value for c in confidences(trace, grammar)}


def entropy(*shares: float) -> float:
    return -sum(p / sum(shares) * math.log(p / sum(shares)) for p in shares)


def test_every_score_of_a_record() -> None:
    probabilities = [0.6, 1.0, 0.8, 0.9, 0.7, 1.0, 0.95, 0.5]
    found = of(RECORD)
    assert found.keys() == SCORES.keys()
    assert found["sum_logprob"] == pytest.approx(sum(map(math.log, probabilities)))
    assert found["mean_logprob"] == pytest.approx(found["sum_logprob"] / 8)
    assert found["min_logprob"] == pytest.approx(math.log(0.5))
    assert found["min_margin"] == pytest.approx(math.log(0.5 / 0.4))
    assert found["label_entropy"] == pytest.approx(-(entropy(0.6, 0.3) + entropy(0.8, 0.2))), "' x' leads to no label"
    assert RECORD.probability == pytest.approx(math.prod(probabilities))


def test_of_several_labels_the_least_sure_one_counts() -> None:
    two = trace(("fee", {"fee": 0.9, "fraud": 0.1}), ("+", {"+": 1.0}), ("fraud", {"fraud": 0.5, "fee": 0.5}), ("", {"": 1.0}))
    assert of(two)["label_entropy"] == pytest.approx(-entropy(0.5, 0.5))


def test_free_text_has_no_labels_and_a_record_without_one_is_unsure() -> None:
    assert "label_entropy" not in of(RECORD, None)
    assert of(trace(("; ", {"; ": 1.0}), ("", {"": 1.0})))["label_entropy"] == -math.inf


@pytest.mark.parametrize("nothing", [None, TokenTrace("", (), (), ())])
def test_without_tokens_every_score_is_not_a_number(nothing: TokenTrace | None) -> None:
    assert all(math.isnan(value) for value in of(nothing).values())


def test_a_larger_probability_of_any_token_never_makes_a_likelihood_less_sure() -> None:
    surer = trace(
        *[
            (text, {**options, text: min(1.0, options[text] + 0.02)})
            for text, options in [
                (RECORD.text[a:b] if b > a else "", {name: math.exp(v) for name, v in top})
                for (a, b), top in zip(RECORD.spans, RECORD.top, strict=True)
            ]
        ]
    )
    before, after = of(RECORD), of(surer)
    assert all(after[name] >= before[name] for name in ("sum_logprob", "mean_logprob", "min_logprob", "min_margin"))


def test_a_trace_gives_every_token_the_characters_by_which_it_makes_the_text_longer() -> None:
    import torch

    pieces = {0: "fee", 1: "\ufffd", 2: "\ufffd\ufffd\ufffd", 3: "<end>"}
    whole = {(1, 2): "\U0001f600"}

    def spell(ids: object) -> str:
        key = tuple(ids)  # type: ignore[call-overload]
        return "fee" + whole[key[1:]] if len(key) == 3 else "".join(pieces[i] for i in key)

    ids, values = most_likely(torch.tensor([[4.0, 1.0, 0.0, -1.0], [0.0, 3.0, 1.0, 1.0], [0.0, 0.0, 5.0, 1.0], [0.0, 0.0, 0.0, 9.0]]))
    found = greedy_trace([0, 1, 2, 3], ids.tolist(), values.tolist(), spell, [3])
    assert found.text == "fee\U0001f600" and found.ends == (3, 4, 4, 4)
    assert found.top[3][0][0] == "<end>", "an alternative is shown as it is spelled"
    assert found.logprobs[0] == pytest.approx(float(torch.tensor([4.0, 1.0, 0.0, -1.0]).log_softmax(0)[0]), rel=1e-5)


def test_a_margin_without_an_alternative_is_infinite() -> None:
    assert trace(("a", {"a": 1.0})).margin(0) == math.inf
