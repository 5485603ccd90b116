"""The section ``route`` and what it means where a key is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from redistill.errors import ConfigError
from redistill.params import parse_params
from redistill.promotion.thresholds.bands import BANDS
from redistill.promotion.thresholds.params import limits_of
from tests.tiny_project import params


def tree(**changes: Any) -> dict[str, Any]:
    return {**params("0" * 64), **changes}


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ({"max_disagreement": 2}, "route.max_disagreement"),
        ({"max_disagreement": 0}, "route.max_disagreement"),
        ({"doubt": 0.6}, "route.doubt"),
        ({"threshold": 0.4}, "route.threshold is not a known key"),
        ({"bands": {"sum_logprob": -1}}, "route.bands.sum_logprob"),
        ({"bands": {"sum_logprobs": 0.1}}, "bands.sum_logprobs is not a score; the scores are label_entropy"),
    ],
)
def test_what_cannot_be_meant_is_refused(route: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_params(tree(route=route))


def test_left_out_the_limit_is_the_margin_of_the_gate_and_bands_are_the_measured_ones() -> None:
    found = parse_params(tree(promote={"arm": "kd", "gates": [{"name": "teacher", "margin": 0.03}]}, route={"bands": {"min_logprob": 0.5}}))
    limits = limits_of(found.route, found.promote)
    assert (limits.max_disagreement, limits.doubt) == (0.03, 0.1)
    assert limits.bands == {**BANDS, "min_logprob": 0.5} and limits.band_of("a new score") == float("inf")
    assert limits_of(replace(found.route, max_disagreement=0.2), found.promote).max_disagreement == 0.2


def test_auto_needs_calibration_rows_to_choose_by() -> None:
    whole = tree()
    whole["promote"]["arm"] = "auto"
    parse_params(whole)
    for source in whole["data"]["source"]:
        source["splits"].pop("calibration", None)
    with pytest.raises(ConfigError, match="promote.arm: auto chooses by calibration, but no source"):
        parse_params(whole)
