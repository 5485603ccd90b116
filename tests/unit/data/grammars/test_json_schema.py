"""JSON completions: what is valid, one spelling for equal values, items by path, and what a schema may be."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
import yaml

from redistill.data.grammars.json_schema import JsonGrammar
from redistill.data.grammars.schema_check import checked
from redistill.data.grammars.types import labels_in, spelled
from redistill.errors import DataError
from redistill.evaluation.outcomes import items_of
from tests.tiny_project import ROOT

ORDER = {
    "type": "object",
    "properties": {
        "intent": {"enum": ["order", "refund"]},
        "urgent": {"type": "boolean"},
        "customer": {"$ref": "#/$defs/person"},
        "lines": {
            "type": "array",
            "items": {"type": "object", "properties": {"sku": {"type": "string"}, "count": {"type": "integer"}}, "required": ["sku"]},
        },
    },
    "required": ["intent"],
    "additionalProperties": False,
    "$defs": {"person": {"type": "object", "properties": {"name": {"type": ["string", "null"]}}}},
}
GRAMMAR = JsonGrammar(checked(ORDER))


@pytest.mark.parametrize(
    "text",
    [
        '{"urgent":true,"intent":"order"}',
        ' {\n  "intent": "order",\n  "urgent": true\n}\n',
        '```json\n{"intent": "order", "urgent": true}\n```',
        '```\n{"urgent": true, "intent": "order"}```',
    ],
)
def test_equal_values_have_one_spelling_on_one_line(text: str) -> None:
    assert GRAMMAR.spelled(text) == '{"intent": "order", "urgent": true}'
    assert GRAMMAR.spelled(GRAMMAR.spelled(text)) == GRAMMAR.spelled(text)


def test_inner_objects_and_lists_are_ordered_too_and_numbers_have_one_spelling() -> None:
    text = '{"lines": [{"count": 2.0, "sku": "A-1"}, {"sku": "“B”"}], "customer": {"other": -0.0, "name": null}, "intent": "order"}'
    expected = '{"intent": "order", "customer": {"name": null, "other": 0}, "lines": [{"sku": "A-1", "count": 2}, {"sku": "“B”"}]}'
    assert GRAMMAR.spelled(text) == expected


def test_items_are_leaves_by_path_and_a_leaf_that_occurs_again_counts_again() -> None:
    text = '{"intent": "order", "lines": [{"sku": "A", "count": 1}, {"sku": "A", "count": 1}], "customer": {}}'
    assert items_of(GRAMMAR, text) == {
        ("intent", "order"),
        ("lines[].sku", "A"),
        ("lines[].sku", "A (2)"),
        ("lines[].count", "1"),
        ("lines[].count", "1 (2)"),
        ("customer", "{}"),
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I would say: order", "no JSON value (a text of 18 characters)"),
        ('{"intent": "order"', "no JSON value (a text of 18 characters)"),
        ('{"intent": "order"} and more', "no JSON value (a text of 28 characters)"),
        ("", "no JSON value (a text of 0 characters)"),
        ("[" * 100_000, "no JSON value (a text of 100,000 characters)"),
        ('{"intent": "order", "intent": "refund"}', "JSON with a key twice, a number that is none, or half a character"),
        ('{"intent": "order", "urgent": NaN}', "JSON with a key twice, a number that is none, or half a character"),
        ('{"intent": "order", "customer": {"name": "\\ud83d"}}', "JSON with a key twice, a number that is none, or half a character"),
        (
            '{"intent": "order", "lines": [{"sku": "A", "count": 1e999}]}',
            "JSON with a key twice, a number that is none, or half a character",
        ),
        ("[" * 500 + "]" * 500, "JSON with more than 100 levels"),
        ('{"intent": "buy"}', "JSON that breaks data.schema at intent: enum"),
        ('{"urgent": true}', "JSON that breaks data.schema at its root: required"),
        ('{"intent": "order", "jane@example.com": 1}', "JSON that breaks data.schema at its root: additionalProperties"),
        ('{"intent": "order", "lines": [{"sku": 3}]}', "JSON that breaks data.schema at lines[].sku: type"),
        ('["order"]', "JSON that breaks data.schema at its root: type"),
    ],
)
def test_what_is_malformed_says_where_and_never_quotes_it(text: str, reason: str) -> None:
    assert GRAMMAR.objection(text, "any text") == reason
    assert items_of(GRAMMAR, text) is None and spelled(GRAMMAR, text) == text and labels_in(GRAMMAR, text) == ()
    with pytest.raises(DataError):
        GRAMMAR.label(text, "any text")


def test_listed_values_are_decisions_and_other_leaves_are_not() -> None:
    text = '{"intent": "refund", "urgent": false, "customer": {"name": "Ann"}}'
    assert GRAMMAR.names == ("intent=order", "intent=refund", "urgent=true", "urgent=false")
    assert GRAMMAR.fields == ("intent", "urgent", "customer.name", "lines[].sku", "lines[].count")
    assert GRAMMAR.decisions(text) == {("intent", "refund"), ("urgent", "false")}
    assert labels_in(GRAMMAR, text) == ("intent=refund", "urgent=false")
    assert GRAMMAR.item_of("intent=refund") in GRAMMAR.items(text) and GRAMMAR.item_of("intent=order") not in GRAMMAR.items(text)


def test_a_schema_that_refers_to_itself_has_an_end() -> None:
    tree: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}, "inner": {"$ref": "#"}}, "required": ["name"]}
    grammar = JsonGrammar(checked(tree))
    text = '{"inner": {"inner": {"name": "c"}, "name": "b"}, "name": "a"}'
    assert grammar.spelled(text) == '{"name": "a", "inner": {"name": "b", "inner": {"name": "c"}}}'
    assert 1 < len(grammar.fields) < 20


def test_alternatives_add_their_keys() -> None:
    tree = {"oneOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}, {"enum": ["none"]}]}
    grammar = JsonGrammar(checked(tree))
    assert grammar.names == ("value=none", "a=1")
    assert grammar.items('"none"') == {("value", "none")} and grammar.items('{"a": 1}') == {("a", "1")}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "no JSON Schema: at properties.a.type"),
        ({"$ref": "https://example.com/order.json"}, "nothing is loaded from elsewhere"),
        ({"$ref": "#/$defs/missing"}, "#/\\$defs/missing, which is no schema in it"),
        ({"$ref": "../order.json"}, "which is no schema in it"),
        ({"properties": {"a": {"$ref": "#/properties/b/enum"}, "b": {"enum": ["x"]}}}, "which is no schema in it"),
        ({"properties": {"a": {"$id": "https://example.com/a", "type": "string"}}}, "has \\$id in a part of it"),
        ({"$schema": 5, "type": "object"}, "\\$schema is text"),
        ({"allOf": [json.loads("[" * 300 + "]" * 300)]}, "no JSON Schema|nested too deeply"),
        ({"type": "string", "pattern": "("}, "at pattern, '\\(' is not a 'regex'"),
        ({"type": "number", "maximum": float("nan")}, "schema is not JSON"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        checked(schema)
    assert "\n" not in str(caught.value)


def test_a_grammar_is_the_same_for_the_same_schema() -> None:
    assert JsonGrammar(checked(ORDER)) == GRAMMAR and hash(JsonGrammar(checked(json.loads(json.dumps(ORDER))))) == hash(GRAMMAR)


def test_equal_values_are_one_text_whatever_the_schema_names() -> None:
    free = JsonGrammar(checked({"type": "object", "additionalProperties": {"type": "number"}}))
    assert free.spelled('{"b": 1, "a": 2}') == free.spelled('{"a": 2.0, "b": 1}') == '{"a": 2, "b": 1}'
    assert free.spelled('{"n": 1e20}') == free.spelled('{"n": 100000000000000000000}')
    parts = JsonGrammar(checked({"multipleOf": 0.1}))
    assert parts.objection("9" * 400, "") == "JSON that data.schema cannot judge: too many levels, or a number that is too large"


def test_which_entry_of_a_list_has_a_value_is_part_of_the_decision() -> None:
    grammar = JsonGrammar(checked({"items": {"properties": {"name": {"type": "string"}, "granted": {"type": "boolean"}}}}))
    one, other = (
        '[{"name": "x", "granted": true}, {"name": "y", "granted": false}]',
        '[{"name": "x", "granted": false}, {"name": "y", "granted": true}]',
    )
    assert grammar.decisions(one) != grammar.decisions(other) and grammar.labels_in(one) == grammar.labels_in(other)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"additionalProperties": {"enum": ["yes", "no"]}}, '{"grant": "yes"}'),
        ({"patternProperties": {"^gr": {"enum": ["yes", "no"]}}}, '{"grant": "yes"}'),
        (
            {"$defs": {"in": {"properties": {"in": {"$ref": "#/$defs/in"}, "grant": {"enum": ["yes"]}}}}, "$ref": "#/$defs/in"},
            '{"in": ' * 12 + '{"grant": "yes"}' + "}" * 12,
        ),
        ({"properties": {f"k{n}": {"type": "string"} for n in range(300)} | {"grant": {"enum": ["yes"]}}}, '{"grant": "yes"}'),
    ],
    ids=["other keys", "keys by pattern", "deep", "many keys"],
)
def test_a_listed_value_decides_wherever_it_stands(schema: dict[str, Any], text: str) -> None:
    [(path, value)] = JsonGrammar(checked(schema)).decisions(text)
    assert path.endswith("grant") and value == "yes"


def test_values_of_other_types_are_other_items() -> None:
    grammar = JsonGrammar(checked({"properties": {"x": {"enum": [0, False, 1, True, "1", "true", None, "null", "a=b"]}}}))
    assert len({grammar.items(json.dumps({"x": value})) for value in (0, False, 1, True, "1", "true", None, "null")}) == 8
    assert grammar.names == ("x=0", "x=false", "x=1", "x=true", 'x="1"', 'x="true"', "x=null", 'x="null"', "x=a=b")
    assert all(
        grammar.item_of(name) in grammar.items(json.dumps({"x": value}))
        for name, value in [("x=true", True), ('x="1"', "1"), ("x=a=b", "a=b")]
    )


def test_a_schema_that_refers_to_itself_in_many_ways_is_walked_in_part() -> None:
    tree = {"type": "object", "properties": {f"k{n}": {"$ref": "#"} for n in range(8)} | {"name": {"type": "string"}}}
    assert JsonGrammar(checked(tree)).fields


def test_a_missing_key_of_a_table_is_no_null() -> None:
    grammar = JsonGrammar(checked({"properties": {"a": {"type": "integer"}, "b": {"properties": {"c": {"type": "string"}}}}}))
    assert grammar.label('{"a": null, "b": {"c": null}}', "") == '{"b": {}}'
    with pytest.raises(DataError, match="at a: type"):
        grammar.label('{"a": "x", "b": null}', "")


def test_a_schema_and_a_file_that_others_wrote() -> None:
    """The schema of compose files, as the package check-jsonschema ships it, and this repository's compose file: keys by pattern, references, unions."""
    vendored = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text(encoding="utf-8")
    grammar = JsonGrammar(checked(json.loads(vendored)))
    value = yaml.safe_load((ROOT / "infra/compose.yaml").read_text(encoding="utf-8"))
    text = json.dumps(value, indent=2)
    line = grammar.spelled(text)
    assert json.loads(line) == value and grammar.spelled(line) == line and "\n" not in line
    assert any(label.endswith(".condition=service_healthy") for label in grammar.labels_in(text))
    # All its keys with listed values are keys by pattern: none can be named beforehand, and still it decides something.
    assert grammar.names == () and grammar.decides
    name = next(iter(value["services"]))
    broken = {**value, "services": {name: {**value["services"][name], "ports": "x"}}}
    assert str(grammar.objection(json.dumps(broken), "")).startswith("JSON that breaks data.schema at services.*")


def test_a_schema_without_listed_values_decides_nothing() -> None:
    assert not JsonGrammar(checked({"type": "object", "properties": {"name": {"type": "string"}}})).decides and GRAMMAR.decides
