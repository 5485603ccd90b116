"""Traffic is kept only where somebody wrote down why that is allowed."""

from __future__ import annotations

import pytest

from redistill.serving.traffic.params import TrafficParams, traffic_fits


def test_traffic_needs_consent_and_licence() -> None:
    assert traffic_fits(TrafficParams()) == []
    assert traffic_fits(TrafficParams(log=True, consent="terms of use", licence="own")) == []
    [problem] = traffic_fits(TrafficParams(log=True, consent=" Unknown "))
    assert problem.startswith("traffic.log is true, but traffic.consent is ' Unknown ' and traffic.licence is ''; write on what ground")


@pytest.mark.parametrize("wrong", [{"share": 1.1}, {"keep_days": 0}, {"shard_rows": 0}, {"shard_s": 0.0}, {"shards": 1}])
def test_impossible_values_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrafficParams(**wrong)  # type: ignore[arg-type]
