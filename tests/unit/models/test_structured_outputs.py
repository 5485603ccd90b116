"""Completions held to a form: valid whatever the weights, with the model's own probabilities, and free where nothing is asked for."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from redistill.data.grammars.json_schema import JsonGrammar
from redistill.data.grammars.record import Record, RecordGrammar
from redistill.data.grammars.schema_check import checked
from redistill.data.grammars.types import Form
from redistill.data.params import DataParams
from redistill.data.templates import render
from redistill.data.types import Message, Prompt
from redistill.errors import ConfigError
from redistill.evaluation.lm_eval import run_benchmark, weights_model
from redistill.evaluation.outcomes import items_of
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.summary import malformed_freely
from redistill.models.checkpoints import load_model
from redistill.models.structured_outputs import HeldToForm, allows, as_ebnf
from redistill.models.tokenizers import load_tokenizer
from redistill.teacher.params import GenerateParams
from redistill.teacher.requests import requests_for
from redistill.teacher.transformers import TransformersTeacher
from tests.tiny import make_tiny_model

RECORD = RecordGrammar(("card_lost", "fee", "pin"), ("urgent", "complaint"), ("amount",), True)
SCHEMA = {
    "type": "object",
    "properties": {"topic": {"enum": ["card", "fee"]}, "urgent": {"type": "boolean"}},
    "required": ["topic", "urgent"],
    "additionalProperties": False,
}
MEASURING = TypeAdapter(BenchmarkParams).validate_python({"batch_size": 4, "max_tokens": 48, "bootstrap": 10})
SOURCE = [{"path": "rows.jsonl", "splits": {"train": 1.0}}]


def data(**changes: object) -> DataParams:
    tree = {"name": "x", "source": SOURCE, "structured_outputs": True, **changes}
    return TypeAdapter(DataParams).validate_python(tree)


LINES = data(
    task="record",
    record={"labels": list(RECORD.labels), "flags": list(RECORD.flags), "entities": list(RECORD.entities), "several": True},
)
OBJECTS = data(task="json", schema=SCHEMA)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("held"), seed=3)


def prompts(count: int = 6) -> list[Prompt]:
    return [Prompt.of((Message("user", f"message number {n} about a card"),), str(n), "all", "pin", "rows") for n in range(count)]


def test_what_the_grammar_writes_has_its_form_and_other_lines_have_not() -> None:
    records = [
        Record(("card_lost", "pin"), ("urgent",), (("amount", "£5.00"),)),
        Record(("fee",), (), ()),
        Record(("fee", "pin"), ("urgent", "complaint"), ()),
    ]
    assert all(allows(RECORD.form, [RECORD.write(record) for record in records]))
    others = ["pin+fee", "fee+fee", "fee; urgent; urgent", "fee; complaint; urgent", "card", "fee; amount=", "", "fee;urgent", "fee."]
    assert not any(allows(RECORD.form, others))


def test_labels_have_the_order_of_the_grammar_whatever_is_in_them() -> None:
    odd = RecordGrammar(("top1", "top-up", "topUp", 'say "hi"', "a\\b", "gebühr", "a b"), (), (), True)
    written = [odd.write(Record(tuple(sorted(pair)), (), ())) for pair in itertools.combinations(odd.labels, 2)]
    assert all(allows(odd.form, written)) and not any(allows(odd.form, ["+".join(reversed(line.split("+"))) for line in written]))


def test_a_form_grows_with_the_number_of_labels_and_not_with_its_square() -> None:
    small, large = (RecordGrammar(tuple(f"label_{n:04}" for n in range(count)), (), (), True).form.text for count in (100, 400))
    assert len(large) < 5 * len(small)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, {"a": 1, "other": "x"}),
        ({"type": "array", "items": {"enum": ["x", "y"]}}, ["y", "x"]),
        ({"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": ["number", "null"]}}}, {"a": None, "b": "“é” \\ / \n"}),
    ],
)
def test_a_spelled_value_has_the_form_of_its_schema(schema: dict[str, object], value: object) -> None:
    grammar = JsonGrammar(checked(schema))
    assert allows(grammar.form, [grammar.spelled(json.dumps(value))]) == [True]


@pytest.mark.parametrize("params", [LINES, OBJECTS], ids=["record", "json"])
def test_random_weights_write_only_valid_completions_when_held_and_none_when_free(params: DataParams, checkpoint: Path) -> None:
    model, tokenizer = load_model(checkpoint, "float32"), load_tokenizer(checkpoint)
    tokenizer.padding_side = "left"
    asked = prompts()
    rendered = [render(p, params, tokenizer) for p in asked]
    outcomes = run_benchmark(weights_model(model, tokenizer, MEASURING, params), asked, rendered, params, MEASURING)
    # An entity has no longest value, so a record may be broken off by the limit of tokens, which cannot be seen in it.
    assert all(items_of(params.grammar, o.response) is not None for o in outcomes)
    assert malformed_freely(outcomes, params.grammar) == len(outcomes)
    free = replace(params, structured_outputs=False)  # type: ignore[type-var]
    without = run_benchmark(weights_model(model, tokenizer, MEASURING, free), asked, rendered, free, MEASURING)
    assert [o.freely for o in outcomes] == [o.response for o in without] and all(o.freely is None for o in without)
    # Where only one token is allowed it is certain, so random weights are surer of a short form than of free text.
    sure = [(o.confidence, w.confidence) for o, w in zip(outcomes, without, strict=True)]
    assert all(held is not None and free is not None and 0 < free < held <= 1 for held, free in sure)


@pytest.mark.parametrize("params", [LINES, OBJECTS], ids=["record", "json"])
def test_the_teacher_is_held_and_its_logprobs_are_among_the_allowed_tokens(params: DataParams, checkpoint: Path) -> None:
    teacher, tokenizer = TransformersTeacher(checkpoint), load_tokenizer(checkpoint)
    settings = TypeAdapter(GenerateParams).validate_python({"max_tokens": 48, "top_k": 4})
    answers = list(teacher.complete(requests_for(prompts(), params, tokenizer), settings))
    assert len(answers) == 6 and all(items_of(params.grammar, a.text) is not None for a in answers)
    # Greedy decoding takes the most likely allowed token; where only one is allowed, it is certain.
    assert all(token == listed[0] for a in answers for token, listed in zip(a.token_ids, a.top_ids, strict=True))
    assert any(values[0] == 0.0 for a in answers for values in a.top_logprobs)


def test_a_form_that_changes_nothing_intervenes_nowhere(checkpoint: Path) -> None:
    import torch

    tokenizer = load_tokenizer(checkpoint)
    width = load_model(checkpoint, "float32").config.vocab_size
    processor = HeldToForm(Form("ebnf", 'root ::= "fee" | "pin"'), tokenizer, width, [tokenizer.eos_token_id]).processor(1)
    ids = tokenizer("fee", add_special_tokens=False)["input_ids"]
    written = [*tokenizer("=>", add_special_tokens=False)["input_ids"]]
    for token in (*ids, tokenizer.eos_token_id):
        scores = torch.zeros(1, width)
        scores[0, token] = 9.0
        assert int(processor(torch.tensor([written]), scores).argmax()) == token
        written.append(token)
    assert processor.intervened == [False]


def test_a_schema_that_no_grammar_expresses_is_one_line() -> None:
    grammar = JsonGrammar(checked({"type": "string", "pattern": r"(a)\1"}))
    with pytest.raises(
        ConfigError, match=r"^data.structured_outputs cannot hold completions to this form \(.*\); simplify data.schema, or turn it off$"
    ):
        as_ebnf(grammar.form)


def test_free_text_has_no_form() -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="structured_outputs needs a form, but task: generation is free text"):
        data(task="generation")
    assert data(task="json", schema=SCHEMA, structured_outputs=False).form is None


def test_an_endpoint_is_asked_for_the_form_of_what_it_writes() -> None:
    """In a conversation a completion is a message of its own; after a plain prompt it starts with a space."""
    from redistill.teacher.openai_form import keys_of

    [request] = requests_for(prompts(1), data(task="json", schema=SCHEMA, format="chat"), None)
    assert request.form is not None and request.form.lead == "" and OBJECTS.form is not None and OBJECTS.form.lead == " "
    asked = keys_of(request.form)["response_format"]["json_schema"]
    assert asked["schema"] == json.loads(json.dumps(SCHEMA)) and asked["strict"] is True
    [line] = requests_for(prompts(1), LINES, None)
    assert line.form is not None and keys_of(line.form) == {"structured_outputs": {"grammar": as_ebnf(line.form)}} and keys_of(None) == {}
    optional = {**SCHEMA, "required": ["topic"]}
    [request] = requests_for(prompts(1), data(task="json", schema=optional), None)
    assert keys_of(request.form)["response_format"]["json_schema"]["strict"] is False
