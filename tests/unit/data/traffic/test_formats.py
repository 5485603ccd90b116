from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from redistill.data.traffic.formats.all_formats import FORMATS
from redistill.data.traffic.formats.json_values import MOST_BYTES, json_values
from redistill.data.traffic.formats.messages import seconds
from redistill.data.traffic.formats.types import Broken, Skipped, Trace
from redistill.errors import DataError

USER = {"role": "user", "content": "where is my card"}
IMAGE = {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}


def only(format: str, value: Any) -> Trace | Skipped | Broken:
    [result] = FORMATS[format](value)
    return result


def said(format: str, value: Any) -> list[tuple[str, str]]:
    result = only(format, value)
    assert isinstance(result, Trace), result
    return [(message.role, message.content) for message in result.messages]


def attributes(**values: Any) -> list[dict[str, Any]]:
    kinds = {str: "stringValue", int: "intValue", bool: "boolValue"}
    return [{"key": key.replace("__", "."), "value": {kinds[type(value)]: value}} for key, value in values.items()]


def span(*events: tuple[str, dict[str, Any]], **values: Any) -> dict[str, Any]:
    listed = [{"name": name, "attributes": attributes(**each)} for name, each in events]
    record = {"traceId": "ab", "spanId": "cd", "startTimeUnixNano": "5000000000", "attributes": attributes(**values), "events": listed}
    return {"resourceSpans": [{"resource": {"attributes": attributes(service__name="bank")}, "scopeSpans": [{"spans": [record]}]}]}


def parts(*messages: tuple[str, str]) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in messages])


def test_openai_takes_the_conversation_before_the_completion() -> None:
    stored = {
        "id": "chatcmpl-1",
        "created": 7,
        "messages": [{"role": "developer", "content": "be brief"}, USER, {"role": "assistant", "content": "soon"}],
    }
    assert said("openai", stored) == [("system", "be brief"), ("user", "where is my card")]
    trace = only("openai", {"request": {"messages": [USER], "metadata": {"channel": "app"}}, "response": {"id": "r", "created": 8}})
    assert isinstance(trace, Trace) and (trace.key, trace.at, trace.values["channel"]) == ("r", 8.0, "app")
    assert said("openai", {"request": {"prompt": "2 + 2 ="}}) == [("user", "2 + 2 =")]
    listed = {"object": "list", "data": [stored, stored]}
    assert [type(each) for each in FORMATS["openai"](listed)] == [Trace, Trace]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"request": {"messages": [USER], "tools": [{"type": "function"}]}}, Skipped("tools")),
        ({"request": {"messages": [USER, CALL, {"role": "tool", "content": "5"}]}}, Skipped("tools")),
        ({"request": {"messages": [IMAGE]}}, Skipped("images, audio or files")),
        ({"request": {"messages": [{**USER, "name": "anna"}]}}, Skipped("a message holds more than text")),
        ({"request": {"prompt": ["a", "b"]}}, Skipped("several prompts, or token ids")),
        ({"request": {"prompt": [1, 2]}}, Skipped("several prompts, or token ids")),
        (
            {"custom_id": "1", "url": "/v1/embeddings", "body": {"input": "x"}},
            Skipped("a request to another endpoint than chat/completions and completions"),
        ),
        (
            {"custom_id": "1", "response": {"body": {}}},
            Skipped("the output of a batch, which has no prompts; import the input of the batch"),
        ),
        ({"text": "hello"}, Broken("no request, body, messages or prompt (it has text)")),
        ({"request": "hello"}, Broken("the request is a text of 5 characters, not an object")),
        (
            {"request": {"messages": "hello"}},
            Broken("messages must be a list of objects with role and content, not a text of 5 characters"),
        ),
        ([1], Broken("a list of 1 is not a JSON object")),
        (
            {"request": {"messages": [{"role": "narrator", "content": "x"}]}},
            Broken("a message has no known role; the roles are system, developer, user and assistant"),
        ),
    ],
)
def test_openai_says_why_not(value: Any, expected: Skipped | Broken) -> None:
    assert only("openai", value) == expected


def test_langfuse_reads_messages_in_every_form() -> None:
    row = {"id": "o", "type": "GENERATION", "startTime": "1970-01-01T00:00:05Z", "metadata": '{"channel": "app"}'}
    for asked in ([USER], json.dumps([USER]), {"messages": [USER]}, USER, "where is my card"):
        assert said("langfuse", {**row, "input": asked}) == [("user", "where is my card")]
    trace = only("langfuse", {**row, "input": "x"})
    assert isinstance(trace, Trace) and (trace.key, trace.at, trace.values["channel"]) == ("o", 5.0, "app")
    page = {"data": [{**row, "input": "x"}, {**row, "type": "SPAN", "input": "x"}], "meta": {}}
    assert [type(each) for each in FORMATS["langfuse"](page)] == [Trace, Skipped]
    assert only("langfuse", {**row, "input": None}) == Skipped("no input")
    assert only("langfuse", {**row, "input": {"question": "x"}}) == Skipped("an input that is neither text nor messages")
    assert only("langfuse", {**row, "input": {"messages": [USER], "tools": [{}]}}) == Skipped("tools")
    assert only("langfuse", {"name": "x"}) == Broken("no input, so it is no observation of Langfuse (it has name)")


def test_otel_reads_each_generation_of_the_conventions() -> None:
    asked = [("user", "where is my card")]
    assert said("otel", span(gen_ai__input__messages=parts(*asked))) == asked
    system = json.dumps([{"type": "text", "content": "be brief"}])
    assert said("otel", span(gen_ai__input__messages=parts(*asked), gen_ai__system_instructions=system)) == [("system", "be brief"), *asked]
    details = ("gen_ai.client.inference.operation.details", {"gen_ai__input__messages": parts(*asked)})
    assert said("otel", span(details, gen_ai__operation__name="chat")) == asked
    events = (("gen_ai.system.message", {"content": "be brief"}), ("gen_ai.user.message", {"content": '{"text": 1}'}))
    assert said("otel", span(*events)) == [("system", "be brief"), ("user", '{"text": 1}')]
    assert said("otel", span(("gen_ai.content.prompt", {"gen_ai__prompt": json.dumps([USER])}))) == asked
    assert said("otel", span(gen_ai__prompt="where is my card")) == asked
    assert said("otel", span(**{"gen_ai__prompt__0__role": "user", "gen_ai__prompt__0__content": "where is my card"})) == asked
    record = {"traceId": "ab", "timeUnixNano": "6000000000", "attributes": attributes(gen_ai__input__messages=parts(*asked))}
    assert said("otel", {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}) == asked
    trace = only("otel", span(gen_ai__prompt="x", channel="app"))
    assert isinstance(trace, Trace) and (trace.key, trace.at) == ("abcd", 5.0)
    assert (trace.values["channel"], trace.values["service.name"]) == ("app", "bank")


def test_otel_says_why_not() -> None:
    assert only("otel", span(http__method="GET")) == Skipped("a span that is no call of a model")
    assert only("otel", span(gen_ai__operation__name="chat")) == Skipped(
        "a call without its messages; turn on the capture of message content"
    )
    assert only("otel", span(gen_ai__operation__name="execute_tool")) == Skipped(
        "another operation than chat, text_completion and generate_content"
    )
    assert only("otel", span(gen_ai__prompt="x", gen_ai__tool__definitions='[{"name": "f"}]')) == Skipped("tools")
    image = json.dumps([{"role": "user", "parts": [{"type": "uri", "modality": "image", "uri": "https://x/y.png"}]}])
    assert only("otel", span(gen_ai__input__messages=image)) == Skipped("images, audio or files")
    call = json.dumps([{"role": "assistant", "parts": [{"type": "tool_call", "name": "f"}]}])
    assert only("otel", span(gen_ai__input__messages=call)) == Skipped("tools")
    assert only("otel", {"spans": []}) == Broken("an object with 1 keys is no OTLP JSON: it has neither resourceSpans nor resourceLogs")
    assert only("otel", span(gen_ai__input__messages="[broken")) == Broken(
        "gen_ai.input.messages is a text of 7 characters, not a list of messages"
    )


def read(path: Path) -> list[tuple[str, Any]]:
    return list(json_values(path.name, path))


def test_values_of_lines_lists_and_documents(tmp_path: Path) -> None:
    rows = [{"a": "£1\n"}, {"b": [1, {"c": "]"}]}, {"d": "x" * 3_000_000}]
    lines = tmp_path / "lines.jsonl"
    lines.write_text("\n".join(["", *map(json.dumps, rows), ""]), encoding="utf-8")
    assert read(lines) == [("line 2", rows[0]), ("line 3", rows[1]), ("line 4", rows[2])]
    for indent in (None, 2):
        text = json.dumps(rows, indent=indent, ensure_ascii=False)
        (tmp_path / "list.json").write_text(text, encoding="utf-8")
        with gzip.open(tmp_path / "list.json.gz", "wt", encoding="utf-8") as handle:
            handle.write(text)
        assert [value for _, value in read(tmp_path / "list.json")] == rows == [value for _, value in read(tmp_path / "list.json.gz")]
    assert [place for place, _ in read(tmp_path / "list.json")][:2] == ["line 2", "line 5"]
    (tmp_path / "page.json").write_text(json.dumps({"data": rows[:2]}, indent=1), encoding="utf-8")
    assert read(tmp_path / "page.json") == [("line 1", {"data": rows[:2]})]
    (tmp_path / "none.json").write_text("[ ]", encoding="utf-8")
    assert read(tmp_path / "none.json") == []


def test_a_broken_line_is_named_and_the_next_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"a": 1\n{"a": 2}\nnull\n{"a": "\xff"}\n{"a": 3}')
    places = [(where, value.reason.partition(" (")[0] if isinstance(value, Broken) else value) for where, value in read(file)]
    assert places == [
        ("line 1", "invalid JSON"),
        ("line 2", {"a": 2}),
        ("line 3", None),
        ("line 4", "byte 7 is not UTF-8"),
        ("line 5", {"a": 3}),
    ]


def test_a_list_that_breaks_off_is_broken_at_its_place(tmp_path: Path) -> None:
    for text, last in (
        ('[{"a": 1},\n{"a": 2', "invalid or incomplete JSON"),
        ('[{"a": 1},\n', "the list does not end"),
        ('[{"a": 1},\nnope]', "invalid"),
    ):
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        first, (place, broken) = read(tmp_path / "x.json")
        assert first == ("line 1", {"a": 1}) and place == "line 2" and isinstance(broken, Broken) and broken.reason.startswith(last)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    (tmp_path / "half.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:30])
    for name, problem in (
        ("none.jsonl", "is missing"),
        (".", "is a directory"),
        ("empty.jsonl", "is empty"),
        ("half.gz", "not a complete gzip file"),
    ):
        with pytest.raises(DataError, match=problem):
            read(tmp_path / name)


def test_a_line_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(f'{{"a": 1}}\n{{"a": "{"x" * (2 * MOST_BYTES)}"}}\n{{"a": 3}}\n', encoding="utf-8")
    first, (place, broken), last = read(tmp_path / "x.jsonl")
    assert (first[1], place, last) == ({"a": 1}, "line 2", ("line 3", {"a": 3})) and isinstance(broken, Broken)


MEASURED = """
import resource, sys
from pathlib import Path
from redistill.data.traffic.formats.json_values import json_values
peak_kb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak_kb()
print(sum(value["n"] for _, value in json_values("x", Path(sys.argv[1]))), peak_kb() - before)
"""


@pytest.mark.parametrize("form", ["list", "lines"])
def test_a_large_file_is_read_in_bounded_memory(tmp_path: Path, form: str) -> None:
    begin, between, end = ("[", ",", "]") if form == "list" else ("", "\n", "\n")
    with gzip.open(tmp_path / "x.gz", "wt", encoding="utf-8", compresslevel=1) as handle:
        handle.write(begin + between.join(json.dumps({"n": n, "text": "x" * 1000}) for n in range(60_000)) + end)
    # In a process of its own, because a peak never goes down.
    done = subprocess.run([sys.executable, "-c", MEASURED, str(tmp_path / "x.gz")], capture_output=True, text=True, check=True)
    total, grown_kb = map(int, done.stdout.split())
    # The text is 60 MB.
    assert total == sum(range(60_000)) and grown_kb < 30_000


def test_times() -> None:
    assert [seconds(value) for value in (5, "1970-01-01T00:00:05Z", "1970-01-01 00:00:05.000", "1970-01-01T01:00:05+01:00")] == [5.0] * 4
    assert seconds(1_790_000_000_000) == 1_790_000_000.0
    assert [seconds(value) for value in (None, True, "soon", -5, float("nan"), 10**400, float("inf"), "9999-12-31T23:59:59-23:00")] == [
        0.0
    ] * 8


def test_an_impossible_time_of_a_span_is_no_crash() -> None:
    data = span(gen_ai__prompt="x")
    record = data["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    for value, at in (("9" * 400, None), ("9" * 30, 0.0), ("-5", 0.0), ("soon", None), (None, 0.0)):
        record["startTimeUnixNano"] = value
        trace = only("otel", data)
        assert isinstance(trace, Broken) if at is None else isinstance(trace, Trace) and trace.at == at
