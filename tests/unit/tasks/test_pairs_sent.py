"""Which counterfactual pairs are sent to models: none with personal data or a secret, in any of its fields."""

from __future__ import annotations

import pytest

from redistill.errors import DataError
from redistill.evaluation.probes.counterfactual import Pair
from tasks.stages.benchmark import _fit_to_send

CLEAN = Pair("a", "name", ("I'm Emily, my card is lost", "I'm Amara, my card is lost"), "a")
BAD = (
    Pair("b", "name", ("I'm Emily, card 4111 1111 1111 1111", "I'm Amara, my card"), "b"),
    Pair("c", "name", ("I'm Emily", "I'm Amara, my password is hunter2!"), "c"),
    Pair("bo@example.org", "name", ("I'm Emily too", "I'm Amara too"), "d"),
)


def test_pairs_with_personal_data_or_secrets_are_dropped_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert _fit_to_send([CLEAN, *BAD], "benchmark") == [CLEAN]
    assert capsys.readouterr().out == (
        "[benchmark] dropped 3 of 4 counterfactual pairs: personal_data: e-mail address 1, personal_data: payment card 1, secrets: password 1\n"
    )


def test_insults_may_be_asked_and_a_file_without_fit_pairs_is_refused() -> None:
    rude = Pair("r", "name", ("I'm Emily, you bastards", "I'm Amara, you bastards"), "r")
    assert _fit_to_send([rude], "benchmark") == [rude]
    with pytest.raises(DataError, match="all 3 counterfactual pairs are dropped"):
        _fit_to_send(BAD, "benchmark")
