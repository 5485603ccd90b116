"""What soft targets cost to store is what is said of them: measured error, order, keys, any width and length."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from redistill.distillation.soft_targets.coding import decode, encode, from_varints, varints
from redistill.distillation.soft_targets.shards import SoftTargetFiles, write_soft_targets
from redistill.distillation.types import SignalKey, SoftTargets

V = 300


@st.composite
def distributions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, log-probabilities and the whole distributions that they are the top of; some tokens are sure, some know nothing."""
    t, k = draw(st.integers(0, 5)), draw(st.integers(0, 12))
    logits = draw(hnp.arrays(np.float64, (t, V), elements=st.floats(-4, 4)))
    sharpness = draw(hnp.arrays(np.float64, (t, 1), elements=st.sampled_from([0.0, 1.0, 10.0])))
    logprobs = logits * sharpness - np.log(np.exp(logits * sharpness).sum(-1, keepdims=True))
    ids = np.argsort(-logprobs, -1)[:, :k]
    return ids, np.take_along_axis(logprobs, ids, -1).astype(np.float32), logprobs


@given(given_=distributions(), bits=st.integers(4, 16))
def test_the_error_that_is_told_is_the_error_that_is_made(given_: tuple[np.ndarray, ...], bits: int) -> None:
    ids, logprobs, _ = given_
    codes, errors = encode(ids, logprobs, V, bits)
    error_T = errors[1.0]
    back_ids, back_logprobs, tail_T = decode(codes, bits)
    assert (np.exp(back_logprobs.astype(np.float64)).sum(-1) + tail_T == np.float64(1)).all() or np.allclose(
        np.exp(back_logprobs.astype(np.float64)).sum(-1) + tail_T, 1.0, atol=1e-5
    )
    for t in range(len(ids)):
        kept = {int(i): float(np.exp(lp)) for i, lp in zip(back_ids[t], back_logprobs[t], strict=True) if np.isfinite(lp)}
        given_p = dict(zip(ids[t].tolist(), np.exp(logprobs[t].astype(np.float64)).tolist(), strict=True))
        assert set(kept) <= set(given_p) and list(kept) == sorted(kept)
        share = float(tail_T[t]) / max(1, V - len(kept))
        expected = sum(p * np.log(p / max(kept.get(i, share), 1e-12)) for i, p in given_p.items() if p > 0)
        rest = max(0.0, 1.0 - sum(given_p.values()))
        if rest > 0:
            expected += rest * np.log(rest / max(share * (V - len(given_p)), 1e-12))
        np.testing.assert_allclose(error_T[t], max(expected, 0.0), atol=2e-6)


@given(given_=distributions())
def test_more_bits_cost_less(given_: tuple[np.ndarray, ...]) -> None:
    """Each √p is off by at most half a step, so the error falls with the square of the steps: 16 bits are as good as exact."""
    ids, logprobs, _ = given_
    assert encode(ids, logprobs, V, 16)[1][1.0].sum() <= 1e-5
    assert encode(ids, logprobs, V, 8)[1][1.0].sum() <= len(ids) * (ids.shape[1] + 1) * 2.0 / 255**2


@given(values=hnp.arrays(np.int64, st.integers(0, 40), elements=st.integers(0, 2**31 - 1)))
def test_any_numbers_survive_packing(values: np.ndarray) -> None:
    assert from_varints(varints(values)).tolist() == values.tolist()


@given(data=st.data())
def test_rows_come_back_under_their_keys(data: st.DataObject) -> None:
    """Whatever the shards and groups: the stream is cut into pieces of a few tokens here."""
    temperatures = data.draw(st.lists(st.floats(0.1, 10.0), unique=True, max_size=2))
    keys = data.draw(st.lists(st.tuples(st.text(max_size=8), st.integers(0, 9), st.text(max_size=8)), unique=True, max_size=6))
    rows = []
    for key in keys:
        ids, logprobs, whole = data.draw(distributions())
        t = len(ids)
        rows.append(
            SoftTargets(
                SignalKey(*key),
                data.draw(st.text(max_size=16)),
                data.draw(st.integers(0, 9)),
                ids.astype(np.int32),
                logprobs,
                np.clip(1.0 - np.exp(logprobs.astype(np.float64)).sum(-1), 0.0, 1.0).astype(np.float32),
                -(np.exp(whole) * whole).sum(-1).astype(np.float32),
                {temperature: np.log(np.exp(whole / temperature).sum(-1)).astype(np.float32) for temperature in temperatures},
            )
        )
        assert rows[-1].tail_T.shape == (t,)
    with tempfile.TemporaryDirectory() as folder:
        facts = write_soft_targets(Path(folder) / "soft", iter(rows), "digest", V, bits=16, shard_tokens=7, group_tokens=3)
        assert sum(f.rows for f in facts) == len(rows) and sum(f.tokens for f in facts) == sum(len(r.tail_T) for r in rows)
        back = SoftTargetFiles(Path(folder) / "soft", "digest")
        assert list(back) == [SignalKey(*key) for key in keys]
        for row in reversed(rows):
            other = back[row.key]
            assert (other.key, other.sequence, other.first, set(other.log_z)) == (row.key, row.sequence, row.first, set(row.log_z))
            for temperature, log_z in row.log_z.items():
                np.testing.assert_array_equal(other.log_z[temperature], log_z)
            np.testing.assert_allclose(other.entropy_T, row.entropy_T, rtol=1e-3, atol=1e-3)
            listed = [dict(zip(r, np.exp(lp), strict=True)) for r, lp in zip(row.top_ids_TK.tolist(), row.top_logprobs_TK, strict=True)]
            for t, (r, lp) in enumerate(zip(other.top_ids_TK.tolist(), other.top_logprobs_TK, strict=True)):
                found = {i: p for i, p in zip(r, np.exp(lp), strict=True) if p > 0}
                assert all(abs(np.sqrt(p) - np.sqrt(found.get(i, 0.0))) < 2e-4 for i, p in listed[t].items())
