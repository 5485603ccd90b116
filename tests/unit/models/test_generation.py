"""Every way to generate here uses the model's own probabilities and ends at every one of its end tokens, whatever the checkpoint ships."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from transformers import AutoModelForCausalLM

from redistill.data.params import DataParams
from redistill.data.templates import completion_text
from redistill.data.types import Message, Prompt
from redistill.distillation.soft_targets.from_teacher import from_listed
from redistill.distillation.training.examples import Supervision, to_example
from redistill.distillation.training.rows import RowMaker
from redistill.distillation.types import SignalKey
from redistill.evaluation.dev_score import _complete
from redistill.evaluation.lm_eval import run_benchmark, weights_model
from redistill.evaluation.params import BenchmarkParams
from redistill.models import pruning
from redistill.models.checkpoints import end_ids_of, load_model, save_checkpoint
from redistill.models.generation import end_ids
from redistill.models.padding import left_padded
from redistill.models.params import StudentParams
from redistill.models.tokenizers import encode, load_tokenizer, tokenizer_digest
from redistill.runtime.precision import multiplies_bf16
from redistill.teacher.local import finished
from redistill.teacher.params import GenerateParams
from redistill.teacher.transformers import TransformersTeacher
from redistill.teacher.types import TeacherAnswer, TeacherCompletion, TeacherRequest
from tests.tiny import BANK, make_tiny_model, method_of

MAX_TOKENS = 12
TEXTS = [json.loads(line)["text"] for line in BANK.read_text(encoding="utf-8").splitlines()[:12]]
DATA = TypeAdapter(DataParams).validate_python(
    {"name": "tiny", "source": "rows.jsonl", "task": "generation", "prompt_template": "{text}\n=>"}
)
ASKING: GenerateParams = TypeAdapter(GenerateParams).validate_python({"max_tokens": MAX_TOKENS, "top_k": 4})
MEASURING = BenchmarkParams(batch_size=4, max_tokens=MAX_TOKENS, bootstrap=10)
SHIPPED = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "do_sample": True, "temperature": 0.6, "top_k": 3, "top_p": 0.8}


def by_hand(model: Any, prompt: list[int], ends: tuple[int, ...]) -> tuple[list[int], float]:
    """Greedy ids, with the end token, and their log-probability: no cache, no padding, no settings."""
    ids, total = list(prompt), 0.0
    with torch.no_grad():
        while len(ids) < len(prompt) + MAX_TOKENS and (len(ids) == len(prompt) or ids[-1] not in ends):
            logprobs = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
            ids.append(int(logprobs.argmax()))
            total += float(logprobs[ids[-1]])
    return ids[len(prompt) :], total


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("generation") / "plain", seed=3)


@pytest.fixture(scope="module")
def second_end(plain: Path) -> int:
    """An ordinary token that greedy answers come to in their middle, to be made an end of completions."""
    model, tokenizer = load_model(plain), load_tokenizer(plain)
    made = [by_hand(model, encode(f"{t}\n=>", tokenizer), ())[0] for t in TEXTS]
    middles = [t for ids in made for t in ids[2:-2] if t != ids[0] and t not in tokenizer.all_special_ids and tokenizer.decode([t]).strip()]
    return max(sorted(set(middles)), key=middles.count)


@pytest.fixture(scope="module")
def shipped(plain: Path, second_end: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights with a generation_config as checkpoints ship it: a penalty, sampling, and two ends, the second of them no special token."""
    path = Path(shutil.copytree(plain, tmp_path_factory.mktemp("generation") / "shipped"))
    file = path / "generation_config.json"
    tree = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**tree, **SHIPPED, "eos_token_id": [tree["eos_token_id"], second_end]}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def expected(plain: Path, second_end: int) -> list[tuple[list[int], float]]:
    model, tokenizer = load_model(plain), load_tokenizer(plain)
    ends = (tokenizer.eos_token_id, second_end)
    made = [by_hand(model, encode(f"{t}\n=>", tokenizer), ends) for t in TEXTS]
    assert any(ids[-1] == second_end for ids, _ in made) and any(ids[-1] not in ends for ids, _ in made), "some end, some are cut"
    return made


def text_of(ids: list[int], tokenizer: Any, second_end: int) -> str:
    ended = ids[:-1] if ids[-1] in (tokenizer.eos_token_id, second_end) else ids
    return str(tokenizer.decode(ended, skip_special_tokens=True)).strip()


def prompts() -> list[Prompt]:
    return [Prompt.of((Message("user", t),), str(i), "", "card", "test") for i, t in enumerate(TEXTS)]


def test_the_shipped_settings_would_change_what_is_said(shipped: Path, expected: list[tuple[list[int], float]]) -> None:
    """Else nothing below could fail: transformers applies the file to whoever says nothing of it."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(shipped), load_tokenizer(shipped)
    changed = 0
    for text, (wanted, _) in zip(TEXTS, expected, strict=True):
        ids = torch.tensor([encode(f"{text}\n=>", tokenizer)])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_TOKENS, do_sample=False, pad_token_id=0)
        changed += out[0, ids.shape[1] :].tolist() != wanted
    assert changed >= 3


def test_all_ends_are_found_and_a_saved_model_is_neutral(shipped: Path, plain: Path, second_end: int, tmp_path: Path) -> None:
    tokenizer, model = load_tokenizer(shipped), load_model(shipped)
    assert end_ids_of(plain) == (tokenizer.eos_token_id,)
    assert list(end_ids_of(shipped)) == end_ids(model) == [tokenizer.eos_token_id, second_end]
    small = StudentParams(model="teacher", init="config", config_overrides={"num_hidden_layers": 2})
    assert end_ids(pruning.build_student(load_model(shipped), small)) == end_ids(model), "also a student that is born from a configuration"
    save_checkpoint(model, tokenizer, tmp_path / "saved")
    tree = json.loads((tmp_path / "saved" / "generation_config.json").read_text(encoding="utf-8"))
    assert not set(SHIPPED) & set(tree) and tree["eos_token_id"] == [tokenizer.eos_token_id, second_end], tree


@pytest.mark.parametrize("other", ["tokenizer", "config"])
def test_an_end_that_only_one_file_knows_counts(shipped: Path, second_end: int, tmp_path: Path, other: str) -> None:
    """A tokenizer whose end is not the model's, and a config with a list: both are ends."""
    path = Path(shutil.copytree(shipped, tmp_path / "model"))
    name, value = ("generation_config.json", second_end) if other == "tokenizer" else ("config.json", [1, second_end])
    file = path / name
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "eos_token_id": value}), encoding="utf-8")
    assert set(end_ids_of(path)) == {load_tokenizer(path).eos_token_id, second_end, *([1] if other == "config" else [])}


def until(ids: list[int], ends: tuple[int, ...]) -> list[int]:
    """Up to the first end, and with it."""
    place = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: place + 1]


def test_the_teacher_says_what_it_says_without_the_file_and_ends_where_it_ends(plain: Path, shipped: Path, second_end: int) -> None:
    """The same weights in the same precision, with and without the file: the same tokens and log-probabilities, up to the end that the file adds."""
    tokenizer = load_tokenizer(shipped)
    ends = (tokenizer.eos_token_id, second_end)
    requests = [TeacherRequest(p.id, 0, p.messages, f"{p.text}\n=>", "") for p in prompts()]
    free, ours = ({a.request.prompt_id: a for a in TransformersTeacher(path).complete(requests, ASKING)} for path in (plain, shipped))
    for key, answer in ours.items():
        ids = until(list(free[key].token_ids), ends)
        assert list(answer.token_ids) == ids and answer.top_ids == free[key].top_ids[: len(ids)]
        assert answer.finish_reason == ("stop" if ids[-1] in ends else "length")
        assert answer.text == text_of(ids, tokenizer, second_end)
        # Greedy: the token itself is the likeliest of the listed ones.
        assert answer.mean_logprob == pytest.approx(sum(max(row) for row in free[key].top_logprobs[: len(ids)]) / len(ids), rel=1e-5)
    assert {a.finish_reason for a in ours.values()} == {"stop", "length"}
    assert any(len(ours[key].token_ids) < len(a.token_ids) for key, a in free.items())


def test_a_prompt_that_does_not_fit_is_an_answer_without_a_completion(plain: Path) -> None:
    """The tiny model reads 512 tokens."""
    texts = ["fee " * 600, "fee"]
    requests = [TeacherRequest(str(i), 0, (Message("user", t),), f"{t}\n=>", "") for i, t in enumerate(texts)]
    long, short = sorted(TransformersTeacher(plain).complete(requests, ASKING), key=lambda a: a.request.prompt_id)
    assert (long.text, long.finish_reason, long.token_ids) == ("", "too long", ())
    assert re.fullmatch(rf"\d+ tokens and {MAX_TOKENS} of generate.max_tokens, but the model reads 512", long.detail)
    assert short.finish_reason in ("stop", "length") and short.token_ids


@pytest.mark.parametrize(
    ("text", "completion", "reasoning", "finish"),
    [
        ("<think>a card\n</think>\n\ncard\nmore", "card", "a card", "stop"),
        ("<think>a card", "<think>a card", None, "unfinished reasoning"),
    ],
)
def test_reasoning_of_local_weights_is_split_off(plain: Path, text: str, completion: str, reasoning: str | None, finish: str) -> None:
    request = TeacherRequest("p", 0, (Message("user", "x"),), "x\n=>", "", ("\n",))
    answer = TeacherAnswer(request, text, None, (1, 2, 3), "stop", -0.1, ((1,),) * 3, ((-0.1,),) * 3)
    made = finished(answer, [-0.1] * 3, load_tokenizer(plain))
    assert (made.text, made.reasoning, made.finish_reason) == (completion, reasoning, finish)
    assert made.token_ids == (() if reasoning else (1, 2, 3)), "the ids are those of the reasoning too"


def test_a_control_token_that_a_completion_spells_is_text(plain: Path) -> None:
    tokenizer = load_tokenizer(plain)
    end = tokenizer.eos_token
    completion = TeacherCompletion("p", 0, f"fee{end}pin", None, (), "stop", "t")
    [row] = RowMaker(DATA, tokenizer).completed([(prompts()[0], completion)], None)
    assert row.completion_ids.count(tokenizer.eos_token_id) == 1 and row.completion_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row.completion_ids[:-1]) == f" fee{end}pin"


def test_a_row_ends_with_the_end_that_the_teacher_used(shipped: Path, second_end: int) -> None:
    """Once, not with two: probabilities that came with the text are bound to these very ids."""
    teacher, tokenizer = TransformersTeacher(shipped), load_tokenizer(shipped)
    given = {p.id: p for p in prompts()}
    requests = [TeacherRequest(p.id, 0, p.messages, f"{p.text}\n=>", "") for p in given.values()]
    answers = [a for a in teacher.complete(requests, ASKING) if a.finish_reason == "stop"]
    kept = [
        (given[a.request.prompt_id], TeacherCompletion(a.request.prompt_id, 0, a.text, None, a.token_ids, "stop", "t")) for a in answers
    ]
    maker, same = RowMaker(DATA, tokenizer), tokenizer_digest(tokenizer)
    rows = maker.completed(kept, same, end_ids_of(shipped))
    assert second_end in {r.completion_ids[-1] for r in rows}
    for row, answer in zip(rows, answers, strict=True):
        assert row.completion_ids == answer.token_ids
        prompt_ids = encode(answer.request.prompt, tokenizer)
        ids = [*prompt_ids, *answer.token_ids]
        soft = from_listed(answer.top_ids, answer.top_logprobs, ids, len(prompt_ids), 4, SignalKey(row.prompt_id, 0, "t"))
        assert to_example(row, soft, Supervision(0.5, "completion")).soft is soft
    spelled = maker.completed(kept, "another tokenizer", end_ids_of(shipped))
    broken_off = [(p, replace(c, token_ids=c.token_ids[:-1])) for p, c in kept]
    for row in (*spelled, *maker.completed(broken_off, same, end_ids_of(shipped)), *maker.gold(prompts())):
        assert row.completion_ids[-1] == tokenizer.eos_token_id and row.completion_ids[-2] not in (tokenizer.eos_token_id, second_end)


def test_a_teachers_end_ids_are_ordinary_tokens_of_another_tokenizer(shipped: Path) -> None:
    """A text whose last token has the number of a teacher's end token is closed all the same."""
    tokenizer = load_tokenizer(shipped)
    [prompt, *_] = prompts()
    last = encode(completion_text("fee", DATA), tokenizer)[-1]
    completion = TeacherCompletion(prompt.id, 0, "fee", None, (), "stop", "t")
    [row] = RowMaker(DATA, tokenizer).completed([(prompt, completion)], "another tokenizer", (last,))
    assert row.completion_ids[-1] == tokenizer.eos_token_id != last


def test_the_benchmark_is_as_by_hand(shipped: Path, second_end: int, expected: list[tuple[list[int], float]]) -> None:
    model, tokenizer = load_model(shipped), load_tokenizer(shipped)
    tokenizer.padding_side = "left"
    rendered = [f"{t}\n=>" for t in TEXTS]
    lines = [text_of(ids, tokenizer, second_end).split("\n")[0].strip() for ids, _ in expected]
    outcomes = run_benchmark(weights_model(model, tokenizer, MEASURING), prompts(), rendered, DATA, MEASURING)
    assert [o.response for o in outcomes] == lines
    for outcome, (_, total) in zip(outcomes, expected, strict=True):
        assert outcome.confidence == pytest.approx(math.exp(total), rel=1e-3)


def test_dev_scores_are_those_of_greedy_completions_up_to_the_end(plain: Path, shipped: Path, second_end: int) -> None:
    """In this machine's precision, as the teacher above; completions of the plain model are cut where the file ends them."""
    tokenizer, rendered = load_tokenizer(shipped), [f"{t}\n=>" for t in TEXTS]
    ends = (tokenizer.eos_token_id, second_end)
    model = load_model(plain)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
        out = [
            model.generate(**left_padded([encode(r, tokenizer)], 0), max_new_tokens=MAX_TOKENS, do_sample=False, pad_token_id=0)[0]
            for r in rendered
        ]
    made = [until(o[len(encode(r, tokenizer)) :].tolist(), ends) for o, r in zip(out, rendered, strict=True)]
    # One at a time, so that padding, which bfloat16 can tell, is the same on both sides.
    lines = [_complete(load_model(shipped), tokenizer, [r], ("\n",), MAX_TOKENS, 1)[0].strip() for r in rendered]
    assert lines == [text_of(ids, tokenizer, second_end).split("\n")[0].strip() for ids in made]
    assert any(ids[-1] == second_end for ids in made)


def test_own_completions_are_sampled_from_the_students_own_distribution(plain: Path, shipped: Path, second_end: int) -> None:
    """The same draws as without the shipped settings, up to the end that the file adds."""
    tokenizer = load_tokenizer(plain)
    method: Any = method_of("on_policy", tokenizer, load_model(plain), seed=7, max_tokens=MAX_TOKENS)
    asked = [torch.tensor(encode(f"{t}\n=>", tokenizer)) for t in TEXTS]
    free, ours = (method._complete(load_model(path), asked, 11) for path in (plain, shipped))
    cut = 0
    for one, two in zip(free, ours, strict=True):
        ids = one.tolist()
        wanted = ids[: ids.index(second_end) + 1] if second_end in ids else ids
        cut += len(wanted) < len(ids)
        assert two.tolist() == wanted
    assert cut, "some of them end at the second end"
