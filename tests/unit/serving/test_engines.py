"""A threshold holds for the engine that calibrated it and for those that were measured; the page and the code name the same ones."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest

from redistill.promotion.thresholds.bands import BANDS
from redistill.serving.engines import COMPARED, engines
from tests.tiny_project import ROOT

PAGE = (ROOT / "docs/cascade.md").read_text(encoding="utf-8").split("<!-- engines -->")[1].split("<!-- end of engines -->")[0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_only_engines_that_were_compared_in_this_number_format_are_trusted(dtype: str) -> None:
    first, *others = engines(dtype)
    assert (first.name, first.version, first.dtype) == ("transformers", version("transformers"), dtype)
    assert others == [engine for engine in COMPARED if engine.dtype == dtype]


def test_the_page_names_what_was_compared() -> None:
    for engine in COMPARED:
        assert engine.version in PAGE and engine.dtype in PAGE, engine


def test_each_band_covers_99_percent_of_what_was_measured() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
    head = [cell.partition(",")[0] for cell in rows[0]]
    for score, band in BANDS.items():
        measured = [float(row[head.index(score)].partition(" / ")[0]) for row in rows[2:]]
        assert measured and max(measured) <= band <= max(measured) + 0.02, (score, measured, band)
    assert re.search(r"wrongly answered", PAGE)
