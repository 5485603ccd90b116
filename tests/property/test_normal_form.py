"""What must hold of the normal form whatever the text."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from redistill.data.normal_form import _INVISIBLE, _spelled, normal_form, normalised


@given(st.text(max_size=30))
def test_it_is_its_own_normal_form_and_every_character_has_a_place(text: str) -> None:
    form = normal_form(text)
    assert form.text == normalised(text) == normalised(form.text)
    places = [form.span(i, i + 1) for i in range(len(form.text))]
    assert places == sorted(places) and all(0 <= a < b <= len(text) for a, b in places)


def test_the_short_way_for_texts_that_do_not_change_is_right_for_every_character() -> None:
    for code in range(0x80, 0x110000):
        text = f"a{chr(code)}"
        assert normalised(text) == _spelled(unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))), hex(code)


def test_spellings_of_the_same_characters_are_one() -> None:
    assert normalised("ｃａｆｅ\u0301 \u00ad１２\u200b３ ٤ “x” – y\u00a0z") == 'café 123 4 "x" - y z'
    assert normal_form("x４１\u200b１１ y").span(1, 5) == (1, 6)
