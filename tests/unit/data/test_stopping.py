"""Where completions end: at the end of the line for a record, where ``data.stop`` says for free text; the same for whoever completes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from redistill.data.grammars.record import RecordGrammar
from redistill.data.params import DataParams, RecordParams, SourceParams
from redistill.data.sources import load
from redistill.data.stopping import cut, tokens_before_stop, tokens_until_stop
from redistill.data.templates import render
from redistill.data.types import Message, Prompt
from redistill.errors import ConfigError, DataError
from redistill.evaluation.dev_score import _complete, dev_score
from redistill.evaluation.lm_eval import completion_model, respond, run_benchmark, weights_model
from redistill.evaluation.params import BenchmarkParams
from redistill.models.tokenizers import encode
from redistill.params import parse_params
from redistill.teacher.completion_store import request_key
from redistill.teacher.params import GenerateParams
from redistill.teacher.transformers import TransformersTeacher
from redistill.teacher.types import TeacherAnswer, TeacherRequest
from tests.tiny_project import params

SOURCE = (SourceParams(path="rows.jsonl", splits={"heldout": 1.0}),)
FREE = DataParams(name="tiny", source=SOURCE, task="generation")
LINE = DataParams(name="tiny", source=SOURCE, task="record", record=RecordParams(labels=("card", "fee")))
LETTER = "Dear customer,\nwe have seen it.\nYours"
PARAMS = BenchmarkParams(max_tokens=16, bootstrap=20, batch_size=4)
TEXTS = ["new email adress, how i change it in app?", "card refused at Freshway", "You have taken a monthly fee", "limit?", "pin", "ok so"]


def prompts(label: str | None = None) -> list[Prompt]:
    return [Prompt.of((Message("user", text),), f"r{i}", "app", label, "rows.jsonl") for i, text in enumerate(TEXTS)]


def test_the_task_says_where_a_completion_ends() -> None:
    assert (LINE.stops, FREE.stops, replace(FREE, stop=("###",)).stops) == (("\n",), (), ("###",))  # type: ignore[type-var]
    tree = params("0" * 64)
    tree["data"]["stop"] = ["\n\n"]
    with pytest.raises(ConfigError, match=r"data: stop is for tasks generation and json; a completion of task: record is one line"):
        parse_params(tree)
    tree["data"] |= {"task": "generation", "stop": [""]}
    with pytest.raises(ConfigError, match=r"data.stop.0"):
        parse_params(tree)


@pytest.mark.parametrize(
    ("text", "stops", "left"),
    [
        ("a\nb", (), "a\nb"),
        ("a\nb", ("\n",), "a"),
        ("a ## b\nc", ("\n", "##"), "a "),
        ("\na", ("\n",), ""),
        ("", ("x",), ""),
    ],
)
def test_a_text_ends_before_its_first_stop(text: str, stops: tuple[str, ...], left: str) -> None:
    assert cut(text, stops) == left


def test_a_letter_of_three_lines_can_match_and_a_record_ends_with_its_line() -> None:
    """Through the real lm-eval: every response used to end at its first newline, whatever the task."""
    rendered = [render(p, FREE) for p in prompts()]
    model = completion_model(lambda asked: [f" {LETTER}\n" for _ in asked])
    assert [(o.response, o.exact) for o in run_benchmark(model, prompts(LETTER), rendered, FREE, PARAMS)] == [(LETTER, True)] * len(TEXTS)
    stopped = replace(FREE, stop=("seen",))  # type: ignore[type-var]
    assert {o.response for o in run_benchmark(model, prompts(LETTER), rendered, stopped, PARAMS)} == {"Dear customer,\nwe have"}
    assert respond(model, rendered[:2], FREE.stops, PARAMS) == [LETTER] * 2
    chatty = completion_model(lambda asked: ["card\nbecause it was lost" for _ in asked])
    assert all(o.exact for o in run_benchmark(chatty, prompts("card"), rendered, LINE, PARAMS))
    assert respond(chatty, rendered[:2], LINE.stops, PARAMS) == ["card"] * 2


@pytest.fixture(scope="module")
def tiny(tiny_model_dir: Path) -> Any:
    from redistill.models.checkpoints import load_model
    from redistill.models.tokenizers import load_tokenizer

    tokenizer, model = load_tokenizer(tiny_model_dir), load_model(tiny_model_dir)
    tokenizer.padding_side = "left"
    return model, tokenizer


def greedy(model: Any, tokenizer: Any, prompt: str, count: int = 16) -> list[int]:
    """The most likely token, one at a time, up to the end token."""
    ids = encode(prompt, tokenizer)
    start = len(ids)
    while len(ids) < start + count and (len(ids) == start or ids[-1] != tokenizer.eos_token_id):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]


def chosen_stops(free: Sequence[str]) -> list[tuple[str, ...]]:
    """Nothing; one character that some texts hold and others do not; and a piece from the middle of one text, which spans tokens."""
    letter = next(c for c in "".join(free) if 0 < sum(c in text for text in free) < len(free))
    return [(), (letter,), (free[0][3:7],), (letter, free[1][5:9])]


@pytest.mark.parametrize("which", range(4))
def test_weights_end_there_for_whoever_asks_them(tiny: Any, tiny_model_dir: Path, which: int) -> None:
    """Benchmark, pairs, dev score, timing and teacher: each like greedy decoding by hand, cut at the same place."""
    model, tokenizer = tiny
    rendered = [render(p, FREE) for p in prompts()]
    made = [greedy(model, tokenizer, r) for r in rendered]
    stops = chosen_stops([tokenizer.decode(ids, skip_special_tokens=True) for ids in made])[which]
    data = replace(FREE, stop=stops)  # type: ignore[type-var]
    wanted = [cut(tokenizer.decode(ids, skip_special_tokens=True), stops).strip() for ids in made]
    until = [min(len(ids), tokens_until_stop(ids, tokenizer, stops) or len(ids)) for ids in made]
    assert not stops or any(u < len(ids) for u, ids in zip(until, made, strict=True)), "some text holds a stop"
    lm = weights_model(model, tokenizer, PARAMS)
    assert [o.response for o in run_benchmark(lm, prompts("x"), rendered, data, PARAMS)] == wanted
    assert respond(lm, rendered, stops, PARAMS) == wanted
    for prompt, ids, end in zip(rendered, made, until, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([encode(prompt, tokenizer) + ids])).logits[0].float().log_softmax(-1)
        start = len(encode(prompt, tokenizer)) - 1
        sure = float(torch.stack([logits[start + i, token] for i, token in enumerate(ids[:end])]).sum().exp())
        assert lm.sure_of(prompt).probability == pytest.approx(sure, rel=1e-3), "of the response, not of what a batch wrote after it"
        assert lm.sure_of(prompt).cut_off == (end == PARAMS.max_tokens and ids[-1] != tokenizer.eos_token_id and end == len(ids))
    # Scored in the precision that this machine trains in, so what it writes is compared with itself.
    unstopped = _complete(model, tokenizer, rendered, (), PARAMS.max_tokens, 4)
    labelled = [replace(p, label=cut(text, stops).strip() or None) for p, text in zip(prompts(), unstopped, strict=True)]
    found = dev_score(model, tokenizer, labelled, data, PARAMS.max_tokens, batch=4)
    assert len(found.exact_N) == sum(p.label is not None for p in labelled) > 0 and found.exact_N.all()
    assert found.objective == 1.0 and found.text == "chrF 1.000, F1 1.000, exact match 1.000"
    _as_the_teacher_answers(tiny_model_dir, tokenizer, rendered, stops)


def _as_the_teacher_answers(path: Path, tokenizer: Any, rendered: list[str], stops: tuple[str, ...]) -> None:
    teacher = TransformersTeacher(path)

    def answers(stop: tuple[str, ...]) -> list[TeacherAnswer]:
        asked = [TeacherRequest(str(i), 0, p.messages, r, "", stop) for i, (p, r) in enumerate(zip(prompts(), rendered, strict=True))]
        return sorted(teacher.complete(asked, GenerateParams(max_tokens=16, top_k=3)), key=lambda a: int(a.request.prompt_id))

    for answer, whole in zip(answers(stops), answers(()), strict=True):
        text = tokenizer.decode(whole.token_ids, skip_special_tokens=True)
        assert answer.text == cut(text, stops).strip()
        stopped = any(stop in text for stop in stops)
        assert answer.finish_reason == ("stop" if stopped else whole.finish_reason)
        # The ids that a row trains on spell the text, or there are none and the text is encoded again.
        assert not answer.token_ids or tokenizer.decode(answer.token_ids, skip_special_tokens=True).strip() == answer.text
        assert answer.token_ids == whole.token_ids[: len(answer.token_ids)] and (
            stopped or answer == replace(whole, request=answer.request)
        )
        assert answer.mean_logprob is not None and answer.mean_logprob <= 0 and (answer.top_ids == () or not stopped)


def test_ids_before_a_stop_spell_the_text_or_there_are_none(tiny: Any) -> None:
    _, tokenizer = tiny
    ids = encode("card; urgent\nand more", tokenizer)
    until = tokens_until_stop(ids, tokenizer, ("\n",))
    assert until is not None and "\n" in tokenizer.decode(ids[:until]) and "\n" not in tokenizer.decode(ids[: until - 1])
    before = tokens_before_stop(ids, tokenizer, ("\n",), until)
    assert before is not None and tokenizer.decode(ids[:before]) == "card; urgent"
    whole = encode("urgent", tokenizer)
    assert tokens_before_stop(whole, tokenizer, ("rgent",), len(whole)) in (None, *range(len(whole)))
    assert tokens_until_stop(ids, tokenizer, ()) is None and tokens_until_stop(ids, tokenizer, ("zzz",)) is None


def test_what_an_answer_ends_with_is_a_part_of_what_was_asked() -> None:
    """Answers of one line, all that the store has held so far, keep their key; other stop sequences are other requests."""
    base = TeacherRequest("p", 0, (Message("user", "x"),), "x\n=>", "app")
    keys = [request_key("t", replace(base, stop=stop), GenerateParams()) for stop in ((), ("\n",), ("\n\n",), ("\n", "##"), ("##", "\n"))]
    assert len(set(keys)) == len(keys)
    assert keys[1] == "de9fa35d989b127ca7d9c59c9b38999bc37118624fb8f6cc7bbd7fef225b84e7"


def test_a_label_that_no_completion_can_match_is_refused(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "hello", "label": "one ### two"}\n', encoding="utf-8")
    assert [p.label for p in load(FREE, tmp_path)["heldout"]] == ["one ### two"]
    with pytest.raises(DataError, match=r"rows.jsonl, line 1: label \(a text of 11 characters\) contains the stop sequence '###'"):
        load(replace(FREE, stop=("###",)), tmp_path)  # type: ignore[type-var]
    with pytest.raises(DataError, match="contains a line break; a record must be one line"):
        RecordGrammar(("fee",), (), ("amount",)).parse("fee; amount=£5\n6")
