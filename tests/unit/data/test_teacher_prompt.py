"""A prompt that only the teacher reads: how it is rendered, which rows are its examples, and that projects without one ask as before."""

from __future__ import annotations

from collections import Counter

import pytest

from redistill.data.params import DataParams, RecordParams
from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt, chosen_examples, prompt_from_json, prompt_to_json
from redistill.data.templates import render, shown_chars
from redistill.data.types import Column, Message, Prompt
from redistill.errors import ConfigError
from redistill.io.json import read_json, write_json
from redistill.models.tokenizers import encode
from redistill.teacher.completion_store import request_key
from redistill.teacher.params import GenerateParams
from redistill.teacher.prompt_file import read_prompt, write_prompt
from redistill.teacher.requests import requests_for
from tests.unit.data.test_templates import CHAT, data, prompt, tokenizer

STORED = {
    "plain-local": "3f4044a89dddfb363dc2656350ab3be4062800aa78204b21c3f029b13ec477c5",
    "plain-endpoint": "b4465eeb3cc2feac1de541d32dd52817c0130ba1ea232829d84c7fbc122843f9",
    "chat-local": "aba251e3196c4e92eb229795c457b3f6559235259fd06435231f05463f9e8ac6",
    "chat-endpoint": "50324652d7a3bd326b2d9abdd41c22bb322f92b509d1c2225044606d1fac01ca",
}
"""Keys of stored completions, made by the version before teachers had a prompt of their own."""
RECORD = DataParams(
    name="x", source="a.jsonl", task="record", record=RecordParams(labels=("card", "fee", "pin"), entities=("amount",), several=True)
)


def labelled(text: str, label: str, system: str | None = None) -> Prompt:
    earlier = () if system is None else (Message("system", system),)
    return Prompt.of((*earlier, Message("user", text)), text, "all", label, "a.jsonl")


SHOWN = TeacherPrompt("You are a bank's clerk.", (labelled("no card", "card"), labelled("a fee </s>", "fee")))


def test_plain_text_shows_blocks_of_the_template_with_its_completion() -> None:
    asked, params, made = prompt("my pin"), data(), tokenizer(starts=True)
    blocks = "You are a bank's clerk.\n\nno card\n=> card\n\na fee < /s>\n=> fee\n\nmy pin\n=>"
    assert render(asked, params, made, SHOWN) == f"<s>{blocks}"
    [to_engine], [to_endpoint] = requests_for([asked], params, made, teacher_prompt=SHOWN), requests_for([asked], params, None, 1, SHOWN)
    assert to_engine.prompt == f"<s>{blocks}"
    assert to_endpoint.prompt == blocks.replace("< /s>", "</s>"), "what /completions gets"
    written = data(prompt_template="<s>[INST] {text} [/INST]")
    assert (
        render(asked, written, made, TeacherPrompt("", SHOWN.examples[:1])) == "<s>[INST] no card [/INST] card\n\n<s>[INST] my pin [/INST]"
    )
    assert render(asked, written, made, TeacherPrompt("Hi.")) == "<s>Hi.\n\n<s>[INST] my pin [/INST]"


def test_a_conversation_shows_one_system_message_and_earlier_turns() -> None:
    made, params = tokenizer(starts=True, chat=CHAT), data(format="chat", prompt_template="{text}?")
    own = prompt("Be brief.", "my pin")
    shown = TeacherPrompt(SHOWN.system, (labelled("no card", "card", "Be brief."), SHOWN.examples[1]))
    turns = ["You are a bank's clerk.\n\nBe brief.", "no card?", "card", "a fee < /s>?", "fee", "my pin?"]
    roles = ["system", "user", "assistant", "user", "assistant", "user"]
    expected = "<s>" + "".join(f"<|im_start|>{r}\n{t}<|im_end|>\n" for r, t in zip(roles, turns, strict=True))
    assert render(own, params, made, shown) == expected
    assert len([i for i in encode(expected, made) if i == made.convert_tokens_to_ids("</s>")]) == 0, "an example writes no control token"
    without = render(prompt("my pin"), params, made, TeacherPrompt("", SHOWN.examples[:1]))
    assert "system" not in without and without.count("<|im_start|>assistant") == 1


def test_a_chat_endpoint_gets_the_messages() -> None:
    params = data(format="chat", prompt_template="{text}?")
    [request] = requests_for([prompt("Be brief.", "my pin")], params, None, teacher_prompt=SHOWN)
    sent = [*((m.role, m.content) for m in request.messages[:-1]), (request.messages[-1].role, request.prompt)]
    assert sent == [
        ("system", "You are a bank's clerk.\n\nBe brief."),
        ("user", "no card?"),
        ("assistant", "card"),
        ("user", "a fee </s>?"),
        ("assistant", "fee"),
        ("user", "my pin?"),
    ]
    assert request_key("t", request, GenerateParams()) != request_key(
        "t", requests_for([prompt("my pin")], params, None)[0], GenerateParams()
    )


def test_the_student_and_projects_without_a_teacher_prompt_read_what_they_did() -> None:
    for format, asked in (("plain", prompt("my card")), ("chat", prompt("Be brief.", "my card <|im_end|>"))):
        for name, made in (("local", tokenizer(starts=True, chat=CHAT)), ("endpoint", None)):
            row = Prompt.of(asked.messages, "1", "app", None, "a.jsonl")
            [request] = requests_for([row], data(format=format), made)
            assert request_key("t", request, GenerateParams()) == STORED[f"{format}-{name}"]
            assert requests_for([row], data(format=format), made, teacher_prompt=NO_PROMPT) == [request]
    assert not NO_PROMPT and NO_PROMPT.digest == ""


def test_a_row_is_not_shown_its_own_label() -> None:
    example = SHOWN.examples[0]
    assert "card\n\n" not in render(example, data(), None, SHOWN) and render(example, data(), None, SHOWN).endswith("=> fee\n\nno card\n=>")
    assert SHOWN.before(prompt("other")) is SHOWN


def test_examples_are_spread_over_the_labels_and_stay() -> None:
    rows = [labelled(f"card {i}", f"card; amount={i}") for i in range(40)]
    rows += [labelled(f"fee {i}", "fee") for i in range(5)] + [labelled(f"pin {i}", "fee+pin") for i in range(2)] + [prompt("no label")]
    chosen = chosen_examples(rows, 6, RECORD, "teacher.prompt.examples")
    assert Counter(str(p.label)[:3] for p in chosen) == {"car": 3, "fee": 3}, "by the first label"
    assert chosen_examples(rows[::-1], 6, RECORD, "teacher.prompt.examples") == chosen, "the order of the file decides nothing"
    more = chosen_examples([*rows, *(labelled(f"new {i}", "fee") for i in range(3))], 6, RECORD, "teacher.prompt.examples")
    assert len(set(more) & set(chosen)) >= 4
    with pytest.raises(ConfigError, match=r"^teacher.prompt.examples=48, but the split train has 47 labelled rows; lower it, or add"):
        chosen_examples(rows, 48, RECORD, "teacher.prompt.examples")


def test_the_file_beside_the_weights_holds_all_that_is_shown(tmp_path) -> None:
    columns = (Column("product", "loan"),)
    shown = TeacherPrompt("Hi.", (Prompt.of((Message("user", "x"),), "1", "all", "fee", "a", columns=columns),))
    assert prompt_from_json(prompt_to_json(shown)) == shown
    write_prompt(tmp_path, shown)
    assert read_prompt(tmp_path) == shown and read_prompt(tmp_path).digest == shown.digest != TeacherPrompt("Hi.").digest
    write_json(tmp_path / "teacher_prompt.json", {**read_json(tmp_path / "teacher_prompt.json"), "examples": 3})
    with pytest.raises(ValueError, match=r"teacher_prompt.json is no teacher prompt \(.*\); run the stage tune_teacher again"):
        read_prompt(tmp_path)
    write_prompt(tmp_path / "none", NO_PROMPT)
    assert not (tmp_path / "none").exists() and read_prompt(tmp_path / "none") is NO_PROMPT


def test_what_is_shown_is_counted_in_characters() -> None:
    assert shown_chars(TeacherPrompt("Be brief."), data()) == 9 and shown_chars(NO_PROMPT, data()) == 0
    assert shown_chars(TeacherPrompt("", (labelled("ab", "fee"),)), data()) == len("ab\n=> fee")
