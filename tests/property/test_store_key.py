"""The store's key changes exactly when the request does: too coarse sells an old answer as new, too fine pays twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.data.types import Message
from redistill.teacher.completion_store import request_key
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherRequest

# Few and similar values, so that equal requests, and requests that differ in one place only, come up often.
words = st.sampled_from(["", "a", "b", "ab", "a\nb", '"', '","', "é", "e\u0301", "user", "1"])
messages = st.lists(st.builds(Message, st.sampled_from(["user", "system", "assistant"]), words), max_size=3).map(tuple)
stops = st.sampled_from([(), ("\n",), ("\n", "a"), ("a", "\n"), ("\na",)])
asked = st.builds(TeacherRequest, words, st.integers(0, 2), messages, words, words, stops)
params = st.builds(
    GenerateParams,
    samples=st.integers(1, 3),
    temperature=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
    top_p=st.sampled_from([0.1, 0.9, 1.0]),
    max_tokens=st.integers(1, 3),
    top_k=st.integers(0, 2),
    seed=st.integers(-1, 1),
    batch_rows=st.integers(1, 3),
)
SAMPLING = ("temperature", "top_p", "max_tokens", "top_k", "seed")
OURS = ("samples", "batch_rows")


def what_the_teacher_sees(teacher: str, request: TeacherRequest, given_params: GenerateParams) -> tuple[Any, ...]:
    said = tuple((m.role, m.content) for m in request.messages)
    return (teacher, said, request.prompt, request.sample_index, request.stop, *(getattr(given_params, name) for name in SAMPLING))


calls = st.tuples(words, asked, params)


@given(calls, calls)
def test_keys_are_equal_iff_the_teacher_sees_the_same(one: Any, other: Any) -> None:
    assert (request_key(*one) == request_key(*other)) == (what_the_teacher_sees(*one) == what_the_teacher_sees(*other))


@given(calls)
def test_how_weights_of_ours_generate_is_part_of_the_key(call: Any) -> None:
    """An endpoint's key has no such part, so its stored answers are found again."""
    assert request_key(*call, "one way") not in (request_key(*call), request_key(*call, "another way"))


@given(calls, words, words, st.integers(1, 9), st.integers(1, 999))
def test_what_is_ours_does_not_matter(call: Any, prompt_id: str, slice: str, samples: int, batch_rows: int) -> None:
    teacher, request, sampling = call
    ours = replace(request, prompt_id=prompt_id, slice=slice)
    assert request_key(teacher, ours, replace(sampling, samples=samples, batch_rows=batch_rows)) == request_key(*call)


@given(calls, st.data())
@pytest.mark.parametrize("changed", ["teacher", "prompt", "sample_index", "role", "content", "order", *SAMPLING])
def test_one_change_anywhere_is_another_key(changed: str, call: Any, data: st.DataObject) -> None:
    teacher, request, sampling = call
    key = request_key(*call)
    two = (Message("user", "a"), Message("system", "b"))
    if changed == "teacher":
        assert request_key(teacher + "x", request, sampling) != key
    elif changed == "prompt":
        assert request_key(teacher, replace(request, prompt=request.prompt + data.draw(st.sampled_from([" ", "x", "\n"]))), sampling) != key
    elif changed == "sample_index":
        assert request_key(teacher, replace(request, sample_index=request.sample_index + 1), sampling) != key
    elif changed in ("role", "content", "order"):
        other = {
            "role": (Message("assistant", "a"), two[1]),
            "content": (two[0], Message("system", "b ")),
            "order": two[::-1],
        }[changed]
        assert request_key(teacher, replace(request, messages=two), sampling) != request_key(
            teacher, replace(request, messages=other), sampling
        )
    else:
        new = {"temperature": 0.3, "top_p": 0.5, "max_tokens": 7, "top_k": 9, "seed": 5}[changed]
        assert request_key(teacher, request, replace(sampling, **{changed: new})) != key


@given(calls)
def test_every_field_of_generate_params_is_either_sampling_or_ours(call: Any) -> None:
    """A field that is added to the params must be thought about here."""
    assert {*SAMPLING, *OURS} == set(GenerateParams.__dataclass_fields__)
    assert len(request_key(*call)) == 64


def test_moving_text_over_a_boundary_is_another_key() -> None:
    def key(*said: tuple[str, str]) -> str:
        return request_key("t", TeacherRequest("p", 0, tuple(Message(*m) for m in said), "x", "s"), GenerateParams())

    spelled = [(("user", "ab"),), (("user", "a"), ("user", "b")), (("usera", "b"),), (("user", 'a"],["user","b'),), ()]
    assert len({key(*s) for s in spelled}) == len(spelled)
