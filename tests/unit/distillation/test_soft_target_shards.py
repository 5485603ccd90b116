"""Shards of soft targets: what is refused, what is told, what stays in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from redistill.distillation.soft_targets.coding import Codes, decode, encode
from redistill.distillation.soft_targets.shards import SoftTargetFiles, write_soft_targets
from redistill.distillation.types import SignalKey, SoftTargets, sequence_digest
from redistill.errors import DataError


def soft(key: str, log_z: dict[float, np.ndarray] | None = None, teacher: str = "t" * 64) -> SoftTargets:
    ids, logprobs = np.array([[5, 2], [7, 0]]), np.log(np.array([[0.6, 0.3], [0.999, 1e-7]]))
    tail, entropy = np.array([0.1, 0.001]), np.array([0.9, 0.01])
    return SoftTargets(key_of(key, teacher), sequence_digest(range(4)), 2, ids, logprobs, tail, entropy, log_z or {})


def key_of(prompt: str, teacher: str = "t" * 64) -> SignalKey:
    return SignalKey(prompt, 0, teacher)


def write(folder: Path, *rows: SoftTargets, **options: int) -> SoftTargetFiles:
    write_soft_targets(folder, rows, "d" * 64, 100, **options)
    return SoftTargetFiles(folder, "d" * 64)


def test_ids_are_sorted_and_what_rounds_to_nothing_joins_the_tail(tmp_path: Path) -> None:
    row = write(tmp_path / "soft", soft("a"))[key_of("a")]
    assert row.top_ids_TK.tolist() == [[2, 5], [7, 0]] and np.isneginf(row.top_logprobs_TK[1, 1])
    np.testing.assert_allclose(np.exp(row.top_logprobs_TK), [[0.3, 0.6], [0.999, 0.0]], atol=4e-3)
    np.testing.assert_allclose(np.exp(row.top_logprobs_TK).sum(-1) + row.tail_T, [1.0, 1.0], atol=1e-6)


def test_every_shard_tells_what_it_costs(tmp_path: Path) -> None:
    facts = write_soft_targets(tmp_path / "soft", [soft("a"), soft("b"), soft("c")], "d", 100, shard_tokens=4)
    assert [f.rows for f in facts] == [2, 1] and [f.tokens for f in facts] == [4, 2]
    error_T = encode(soft("a").top_ids_TK, soft("a").top_logprobs_TK, 100, 8)[1][1.0]
    for fact in facts:
        stated = pq.read_schema(tmp_path / "soft" / fact.file).metadata
        stated = {k.decode(): v.decode() for k, v in pq.ParquetFile(tmp_path / "soft" / fact.file).metadata.metadata.items()}
        assert float(stated["redistill.kl_error_nats"]) == fact.kl_error == pytest.approx(error_T.mean(), rel=1e-2)
        assert float(stated["redistill.bytes_per_token"]) == fact.bytes_per_token > 0
        assert fact.kl_error_max >= fact.kl_error and fact.ids_per_token == 1.5


@pytest.mark.parametrize(("bits", "most"), [(8, 1.0), (12, 2e-3)])
def test_the_error_at_other_temperatures_is_measured_and_twelve_bits_keep_it_small(tmp_path: Path, bits: int, most: float) -> None:
    """A token that is 99.99 % sure: what 8 bits round to nothing is a tenth of the mass at T = 2."""
    rng = np.random.default_rng(3)
    logits = np.concatenate([[16.0], rng.normal(0, 1.5, 99)])
    logprobs = logits - np.log(np.exp(logits).sum())
    ids = np.argsort(-logprobs)[:32]
    log_z = {2.0: np.array([np.log(np.exp(logprobs / 2).sum())], np.float32)}
    row = SoftTargets(key_of("a"), sequence_digest(range(2)), 1, ids[None], logprobs[ids][None], np.zeros(1), np.zeros(1), log_z)
    (fact,) = write_soft_targets(tmp_path / "soft", [row], "d", 100, bits)
    stated = pq.ParquetFile(tmp_path / "soft" / fact.file).metadata.metadata
    assert float(stated[b"redistill.kl_error_nats_at_2"]) == fact.kl_error_at["2"] <= most
    assert fact.kl_error_at["2"] > 5 * fact.kl_error, "heat raises what was rounded"
    # By hand: the values that are read back, re-tempered with the stored log Z_T, what is not listed sharing the rest.
    back = SoftTargetFiles(tmp_path / "soft")[key_of("a")]
    q = {
        int(i): np.exp(lp / 2 - log_z[2.0][0]) for i, lp in zip(back.top_ids_TK[0], back.top_logprobs_TK[0], strict=True) if np.isfinite(lp)
    }
    share = (1 - sum(q.values())) / (100 - len(q))
    p = np.exp(logprobs[ids] / 2 - log_z[2.0][0])
    rest = 1 - p.sum()
    by_hand = sum(pi * np.log(pi / q.get(int(i), share)) for i, pi in zip(ids, p, strict=True)) + rest * np.log(rest / (share * 68))
    assert fact.kl_error_at["2"] == pytest.approx(by_hand, rel=0.02)


def test_bound_to_the_tokenizer(tmp_path: Path) -> None:
    files = write(tmp_path / "soft", soft("a"), soft("b"))
    assert set(files) == {key_of("a"), key_of("b")} and len(files) == 2 and key_of("c") not in files and key_of("a", "other") not in files
    with pytest.raises(DataError, match=r"of tokenizer dddddddddddd, but the student's is eeeeeeeeeeee.*alpha to 0"):
        SoftTargetFiles(tmp_path / "soft", "e" * 64)
    write_soft_targets(tmp_path / "none", [], "d" * 64, 100)
    assert list(SoftTargetFiles(tmp_path / "none", "e" * 64)) == []


def test_rows_with_and_without_log_z(tmp_path: Path) -> None:
    files = write(tmp_path / "soft", soft("a"), soft("b", {2.0: np.ones(2, np.float32)}), soft("c"))
    assert not files[key_of("a")].log_z and not files[key_of("c")].log_z and files[key_of("b")].log_z[2.0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("ids", "logprobs", "words"),
    [
        ([[5, 100]], [[-1.0, -2.0]], "outside the vocabulary of 100"),
        ([[5, -1]], [[-1.0, -2.0]], "outside the vocabulary"),
        ([[5, 5]], [[-1.0, -2.0]], "contain a token id twice"),
        ([[5, 6]], [[-1.0, np.nan]], "NaN"),
        ([[5, 6]], [[-0.1, -0.1]], "sum to more than 1"),
        ([[5, 6]], [[3.0, -9.0]], "sum to more than 1"),
    ],
)
def test_what_is_no_distribution_is_refused_and_nothing_is_left(tmp_path: Path, ids, logprobs, words: str) -> None:
    broken = SoftTargets(key_of("b"), sequence_digest(range(2)), 1, np.array(ids), np.array(logprobs), np.zeros(1), np.zeros(1))
    with pytest.raises(DataError, match=words):
        write(tmp_path / "soft", soft("a"), broken)
    assert list(tmp_path.iterdir()) == []


def test_two_rows_of_one_key_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row a/0 has soft targets twice"):
        write(tmp_path / "soft", soft("a"), soft("a"))


def test_a_crash_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "soft", soft("a"))

    def rows():
        yield soft("b")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_soft_targets(tmp_path / "soft", rows(), "d" * 64, 100)
    assert list(SoftTargetFiles(tmp_path / "soft")) == [key_of("a")] and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("spoil", [lambda b: b"", lambda b: b"PK\x03\x04 not this", lambda b: b[: len(b) // 2], lambda b: b[:-1]])
def test_what_is_no_parquet_is_refused(tmp_path: Path, spoil) -> None:
    write(tmp_path / "soft", soft("a"))
    file = tmp_path / "soft" / "shard-00000.parquet"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DataError, match="is not a Parquet file .*; remove it and run its stage again"):
        SoftTargetFiles(tmp_path / "soft")


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "soft", *(soft(f"row-{i}") for i in range(50)))
    file = tmp_path / "soft" / "shard-00000.parquet"
    content = bytearray(file.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 400] = b"\xff" * 400
    file.write_bytes(content)
    with pytest.raises(DataError, match="is damaged|is not a Parquet file"):
        files = SoftTargetFiles(tmp_path / "soft")
        [files[key] for key in files]


def test_other_folders_and_schemas_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing or has no soft targets"):
        SoftTargetFiles(tmp_path / "soft")
    write(tmp_path / "soft", soft("a"))
    file = tmp_path / "soft" / "shard-00000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"redistill.schema": b"0"}), file)
    with pytest.raises(DataError, match="has schema 0, but this version of redistill reads 4; run its stage again"):
        SoftTargetFiles(tmp_path / "soft")


@pytest.mark.parametrize("part", Codes._fields)
def test_a_row_that_lost_bytes_is_refused(part: str) -> None:
    codes, _ = encode(soft("a").top_ids_TK, soft("a").top_logprobs_TK, 100, 8)
    with pytest.raises(DataError, match="is damaged"):
        decode(codes._replace(**{part: getattr(codes, part)[:-2]}), 8)
    with pytest.raises(DataError, match="ends within a number"):
        decode(codes._replace(ids=b"\x80"), 8)


def test_writing_holds_one_group_and_reading_a_few(tmp_path: Path) -> None:
    """A generator of 60 MB of rows is never in memory at once."""
    import tracemalloc

    draw = np.random.default_rng(0)

    def rows():
        for i in range(120):
            top = np.sort(draw.dirichlet(np.full(64, 0.3), 500))[:, ::-1] * 0.99
            ids = np.cumsum(draw.integers(1, 700, (500, 64)), -1)
            yield SoftTargets(key_of(f"row-{i}"), sequence_digest(range(501)), 1, ids, np.log(top + 1e-12), 1 - top.sum(-1), top[:, 0])

    tracemalloc.start()
    write_soft_targets(tmp_path / "soft", rows(), "d", 50_000, group_tokens=2_000)
    _, written = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    files = SoftTargetFiles(tmp_path / "soft")
    assert sum(len(files[key].tail_T) for key in files) == 60_000
    _, read = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written < 16e6 and read < 16e6, (written, read)
