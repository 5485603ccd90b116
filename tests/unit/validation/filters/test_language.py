from __future__ import annotations

import pytest

from redistill.validation.filters.language import Language, detect
from redistill.validation.params import IntakeParams
from redistill.validation.types import Candidate, Drop, Keep

PARAMS = IntakeParams()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Guten Tag, ich habe meine Karte verloren und brauche eine neue", "de"),
        ("Mi tarjeta fue robada en el metro ayer por la tarde", "es"),
        ("GUTEN TAG, ICH HABE MEINE KARTE VERLOREN UND BRAUCHE EINE NEUE", "de"),
        ("我的银行卡丢了，请帮我马上冻结", "zh"),
    ],
)
def test_another_language_is_dropped_by_its_code(text: str, language: str) -> None:
    assert Language(PARAMS).judge(Candidate(text)) == Drop("language", language)


@pytest.mark.parametrize(
    "text", ["", "ok", "hola amigo que tal", "Kartenverlustmeldungsformular bitte", "my card was stolen on the train this morning"]
)
def test_listed_languages_and_short_texts_stay(text: str) -> None:
    assert Language(PARAMS).judge(Candidate(text)) == Keep()


def test_an_unsure_verdict_keeps_and_an_empty_list_turns_the_filter_off() -> None:
    text = "ur machine swallowed card ending 4692, abroad til friday w no money, sort it asap"
    language, confidence = detect(text)
    assert language != "en", "the detector errs on this one; take another text if a new model does not"
    assert Language(IntakeParams(min_language_confidence=confidence + 0.01)).judge(Candidate(text)) == Keep()
    assert Language(IntakeParams(min_language_confidence=confidence - 0.01)).judge(Candidate(text)) == Drop("language", language)
    assert Language(IntakeParams(languages=())).judge(Candidate("Mi tarjeta fue robada en el metro ayer por la tarde")) == Keep()
    assert Language(IntakeParams(languages=("en", "es"))).judge(Candidate("Mi tarjeta fue robada en el metro ayer por la tarde")) == Keep()


def test_line_ends_and_signs_do_not_break_the_detector() -> None:
    for text in ("my card\nwas stolen\r\nthis morning\0 on the train", "\ud83d my card was stolen this morning", "?!" * 40):
        assert 0.0 <= detect(text)[1] <= 1.0
