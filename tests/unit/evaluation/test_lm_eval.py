"""What is counted on one row, by hand; and the real lm-eval: every row once, in order, the same question for every model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redistill.data.grammars.record import RecordGrammar
from redistill.data.params import DataParams, RecordParams, SourceParams
from redistill.data.templates import render
from redistill.data.types import Message, Prompt
from redistill.errors import DataError
from redistill.evaluation.cost import disk_bytes, generator
from redistill.evaluation.lm_eval import completion_model, run_benchmark, weights_model
from redistill.evaluation.outcomes import items_of, outcome_of
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.summary import report_from_json, report_to_json, summarise
from redistill.evaluation.types import Cost, Outcome, Sureness
from redistill.models.tokenizers import encode
from redistill.statistics.shares import share

GRAMMAR = RecordGrammar(("card", "fee"), ("urgent",), ("amount",), several=True)
DATA = DataParams(
    name="tiny",
    source=(SourceParams(path="rows.jsonl", splits={"heldout": 1.0}),),
    task="record",
    record=RecordParams(labels=("card", "fee"), flags=("urgent",), entities=("amount",), several=True),
)
PARAMS = BenchmarkParams(max_tokens=12, bootstrap=200, batch_size=4)
# Texts that a templating engine, a tokenizer or a parser might treat as its own.
TEXTS = ["a fee of £5", "42", "{{ 7 * 7 }} {% if x %}", " blanks at both ends ", "[1, 2]", "two\nlines\n"]
LABELS = ["fee; amount=£5", "card", "card+fee", "fee", "card; urgent", "fee; urgent"]
COST = Cost(1000, 2000, 3000)
IDENTITIES = {"model": "m", "heldout": "h", "template": "t", "backend": "b"}


def prompts() -> list[Prompt]:
    channels = ["app", "app", "phone", "phone", "phone", "e-mail"]
    return [
        Prompt.of((Message("user", text),), f"r{i}", channels[i], label, "rows.jsonl")
        for i, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))
    ]


@pytest.mark.parametrize(
    ("line", "items"),
    [
        ("card", {("label", "card")}),
        (
            " card+fee; urgent; amount=£5\n",
            {("label", "card"), ("label", "fee"), ("urgent", "yes"), ("amount", "£5")},
        ),
        ("", None),
        ("loan", None),
        ("card; amount=", None),
        ("urgent", None),
    ],
)
def test_items_of_a_record(line: str, items: set[tuple[str, str]] | None) -> None:
    assert items_of(GRAMMAR, line) == (None if items is None else frozenset(items))
    assert items_of(None, line) == frozenset({("text", line.strip())})


@pytest.mark.parametrize(
    ("response", "exact", "counts"),
    [
        ("fee; urgent; amount=£5", True, (3, 0, 0)),
        (" fee; urgent; amount=£5 \n", True, (3, 0, 0)),
        ("fee", False, (1, 0, 2)),
        ("card+fee; amount=£6", False, (1, 2, 2)),
        ("card", False, (0, 1, 3)),
        ("fee; amount=£5; urgent", False, (0, 0, 3)),
        ("", False, (0, 0, 3)),
    ],
)
def test_outcome_of_one_row(response: str, exact: bool, counts: tuple[int, int, int]) -> None:
    prompt = replace(prompts()[0], label="fee; urgent; amount=£5")
    sample = {"filtered_resps": [response], "doc_hash": "d", "prompt_hash": "q"}
    expected = Outcome(prompt.id, "d", "q", "app", "fee; urgent; amount=£5", response.strip(), exact, *counts)
    assert replace(outcome_of(sample, prompt, GRAMMAR), objection="") == expected


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ("card", ""),
        ("fee; amount=£5", ""),
        ("fee; amount=£6", "malformed"),
        ("fee; amount=£5; urgent", "malformed"),
        ("loan", "malformed"),
        ("", "malformed"),
    ],
)
def test_an_objection_to_a_response_needs_no_label(response: str, why: str) -> None:
    prompt = replace(prompts()[0], messages=(Message("user", "the fee is £5"),), label="card")
    sample = {"filtered_resps": [response], "doc_hash": "d", "prompt_hash": "q"}
    assert outcome_of(sample, prompt, GRAMMAR).objection == why
    assert outcome_of(sample, prompt, GRAMMAR, Sureness(0.9, (), cut_off=True)).objection == "cut-off", "whatever it says"
    assert outcome_of(sample, prompt, None, Sureness(0.9, (), cut_off=True)).objection == "", "of free text nothing can be said"


def test_outcome_of_free_text_is_one_item() -> None:
    prompt = replace(prompts()[0], label="the fee is £5")
    [right, wrong] = [
        outcome_of({"filtered_resps": [r], "doc_hash": "", "prompt_hash": ""}, prompt, None) for r in ("the fee is £5 ", "£5")
    ]
    assert (right.exact, right.true_positives, right.false_positives, right.false_negatives) == (True, 1, 0, 0)
    assert (wrong.exact, wrong.true_positives, wrong.false_positives, wrong.false_negatives) == (False, 0, 1, 1)


def outcomes(*responses: str) -> list[Outcome]:
    rows = zip(prompts(), responses, strict=True)
    return [outcome_of({"filtered_resps": [r], "doc_hash": "d", "prompt_hash": "q"}, p, GRAMMAR) for p, r in rows]


def test_summary_numbers_by_hand() -> None:
    given = outcomes("fee; amount=£5", "fee", "card", "nonsense", "card; urgent", "fee; amount=£9")
    report = summarise("kd", given, GRAMMAR, COST, IDENTITIES, PARAMS)
    assert (report.who, report.n, report.malformed, report.cost) == ("kd", 6, 1, COST)
    assert (report.model_digest, report.heldout_digest, report.template_digest, report.backend) == ("m", "h", "t", "b")
    # exact: rows 0 and 4. Items: right 2+0+1+0+2+1 = 6, wrong 0+1+0+0+0+1 = 2, missed 0+1+1+1+0+1 = 4.
    assert report.exact_match == share(2, 6)
    assert report.f1.value == pytest.approx(12 / (12 + 2 + 4))
    # label: right 1+0+1+0+1+1 = 4, wrong 1 (row 1), missed 3 (rows 1, 2, 3); urgent: 1 right, 1 missed; amount: 1 right, 1 wrong
    assert {k: v.value for k, v in report.fields.items()} == pytest.approx({"label": 8 / 12, "urgent": 2 / 3, "amount": 2 / 3})
    assert report.slices == {"app": share(1, 2), "e-mail": share(0, 1), "phone": share(1, 3)}
    assert all(0.0 <= s.interval.low <= s.value <= s.interval.high <= 1.0 for s in (report.exact_match, report.f1, *report.fields.values()))
    assert report_from_json(json.loads(json.dumps(report_to_json(report)))) == report
    earlier = {
        **report_to_json(report),
        "calibration": {"ece": {"value": 0.1, "interval": {"low": 0.05, "high": 0.2}}, "brier": 0.1, "bins": []},
    }
    assert report_from_json(earlier) == report, "the interval that it had said something else"


def test_summary_at_the_ends() -> None:
    perfect = summarise("a", outcomes(*LABELS), GRAMMAR, COST, IDENTITIES, PARAMS)
    assert perfect.exact_match.value == perfect.f1.value == 1.0 and perfect.malformed == 0
    hopeless = summarise("b", outcomes(*["?"] * 6), GRAMMAR, COST, IDENTITIES, PARAMS)
    assert hopeless.exact_match.value == hopeless.f1.value == 0.0 and hopeless.malformed == 6


@pytest.fixture(scope="module")
def benchmarked(tiny_model_dir: Path) -> dict[str, Any]:
    """Two models that only complete, and real weights, each asked the same six rows by lm-eval."""
    from redistill.models.checkpoints import load_model
    from redistill.models.tokenizers import load_tokenizer

    asked: list[list[str]] = []

    def perfect(rendered: Sequence[str]) -> list[str]:
        asked.append(list(rendered))
        return [f" {label_of[r]}" for r in rendered]

    tokenizer, model = load_tokenizer(tiny_model_dir), load_model(tiny_model_dir)
    tokenizer.padding_side = "left"
    rendered = [render(p, DATA) for p in prompts()]
    label_of = dict(zip(rendered, LABELS, strict=True))
    models = {
        "perfect": completion_model(perfect),
        "mute": completion_model(lambda rows: [""] * len(rows)),
        "tiny": weights_model(model, tokenizer, PARAMS),
    }
    found: dict[str, Any] = {name: run_benchmark(m, prompts(), rendered, DATA, PARAMS) for name, m in models.items()}
    return {**found, "asked": asked, "model": model, "tokenizer": tokenizer, "rendered": rendered}


def test_lm_eval_asks_every_row_as_it_is_rendered(benchmarked: dict[str, Any]) -> None:
    assert sorted(q for batch in benchmarked["asked"] for q in batch) == sorted(f"{text}\n=>" for text in TEXTS)


def test_outcomes_stand_in_the_order_of_the_rows_and_hashes_bind_models_together(benchmarked: dict[str, Any]) -> None:
    perfect, mute, tiny = benchmarked["perfect"], benchmarked["mute"], benchmarked["tiny"]
    for given in (perfect, mute, tiny):
        assert [(o.prompt_id, o.target, o.slice) for o in given] == [(p.id, p.label, p.slice) for p in prompts()]
    assert [o.response for o in perfect] == LABELS and all(o.exact for o in perfect)
    assert not any(o.exact or o.response or o.true_positives or o.false_positives for o in mute)
    hashes = [[(o.doc_hash, o.prompt_hash) for o in given] for given in (perfect, mute, tiny)]
    assert hashes[0] == hashes[1] == hashes[2]
    assert len({d for d, _ in hashes[0]}) == len({q for _, q in hashes[0]}) == 6


def greedy(model: Any, tokenizer: Any, prompt: str) -> list[int]:
    """The most likely token, one at a time, without cache, padding or anything added to the prompt."""
    import torch

    ids = encode(prompt, tokenizer)
    start = len(ids)
    while len(ids) < start + PARAMS.max_tokens and (len(ids) == start or ids[-1] != tokenizer.eos_token_id):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]


def test_weights_answer_as_greedy_decoding_by_hand(benchmarked: dict[str, Any]) -> None:
    model, tokenizer, rendered = (benchmarked[k] for k in ("model", "tokenizer", "rendered"))
    wanted = [tokenizer.decode(greedy(model, tokenizer, r), skip_special_tokens=True).split("\n")[0].strip() for r in rendered]
    assert [o.response for o in benchmarked["tiny"]] == wanted and any(wanted)


def test_a_model_that_only_completes_has_no_likelihoods() -> None:
    with pytest.raises(DataError, match="only writes completions"):
        completion_model(lambda rows: []).loglikelihood([])


def test_the_generator_writes_exactly_as_many_tokens_as_it_is_told_for_timing(
    benchmarked: dict[str, Any], tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the model would have ended before."""
    from redistill.models.tokenizers import load_tokenizer

    model, rendered, tokenizer = benchmarked["model"], benchmarked["rendered"], load_tokenizer(tiny_model_dir)
    first = greedy(model, tokenizer, rendered[0])[0]
    monkeypatch.setattr(model.generation_config, "eos_token_id", first)
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(first)
    assert greedy(model, tokenizer, rendered[0]) == [first], "it would have ended at once"
    exact = generator(model, tokenizer, 7)
    assert exact([rendered[0]]) == 7 and exact(rendered) == 7 * len(rendered)


def test_the_size_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "sub" / "b").write_bytes(b"4567")
    assert disk_bytes(tmp_path) == 7


def test_confidence_is_the_probability_of_the_whole_response(benchmarked: dict[str, Any]) -> None:
    """One forward pass over prompt and response, without cache or padding, says the same."""
    import torch

    model, tokenizer = benchmarked["model"], benchmarked["tokenizer"]
    for outcome, prompt in zip(benchmarked["tiny"], benchmarked["rendered"], strict=True):
        given, made = encode(prompt, tokenizer), greedy(model, tokenizer, prompt)
        with torch.inference_mode():
            logits = model(torch.tensor([given + made])).logits[0].float().log_softmax(-1)
        expected = sum(float(logits[len(given) - 1 + i, token]) for i, token in enumerate(made))
        assert outcome.confidence == pytest.approx(math.exp(expected), rel=1e-3)
    assert all(o.confidence is None for o in benchmarked["mute"])
