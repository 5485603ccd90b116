"""Soft targets ↔ Parquet shards: written and read as a stream, bound to a tokenizer, each row to the teacher that gave it.

A set of soft targets is a directory of shards. Only one row group is in memory at a time when it is written; when it is read, an index of keys and
a few row groups, so a training run may ask for any row at any time (KD rule 8). What a shard costs is written into it: bytes a token, and the
Kullback-Leibler error of its coding (``soft_target_codes``), measured on every token.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from redistill.distillation.soft_targets.coding import Codes, decode, encode
from redistill.distillation.types import SignalKey, SoftTargets
from redistill.errors import DataError
from redistill.io.atomic import is_disk_error, replacing_directory

_SCHEMA = "4"
"""Raised when the columns of a shard change."""
GROUP_TOKENS = 16_384
"""Tokens of a row group: what is held at once, and what a read of one row costs."""
SHARD_TOKENS = 8_000_000
_LEVEL = 9
_GROUPS_HELD = 4


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What one shard holds and costs. ``kl_error`` is the mean over its tokens, in nats at T = 1; ``kl_error_max`` the worst token's.

    ``kl_error_at`` is the mean at each other temperature whose log Z_T is stored.
    """

    file: str
    rows: int
    tokens: int
    bytes_per_token: float
    ids_per_token: float
    kl_error: float
    kl_error_max: float
    tail: float
    kl_error_at: dict[str, float]


def write_soft_targets(
    path: str | os.PathLike[str],
    rows: Iterable[SoftTargets],
    tokenizer_digest: str,
    vocabulary: int,
    bits: int = 8,
    shard_tokens: int = SHARD_TOKENS,
    group_tokens: int = GROUP_TOKENS,
) -> list[ShardFacts]:
    """Write soft targets as a directory of shards, whole or not at all, and say what each cost. ``rows`` may be a generator.

    Raises:
        DataError: two rows with the same key, values that are not probabilities, ids outside the vocabulary, or a full disk.
    """
    seen: set[SignalKey] = set()
    facts: list[ShardFacts] = []
    metadata = {"redistill.tokenizer": tokenizer_digest, "redistill.vocabulary": str(vocabulary), "redistill.bits": str(bits)}
    with replacing_directory(path) as folder:
        shard: _Shard | None = None
        try:
            for row in rows:
                if row.key in seen:
                    raise DataError(f"row {row.key} has soft targets twice; remove the folder and run its stage again")
                seen.add(row.key)
                shard = shard or _Shard(folder / f"shard-{len(facts):05d}.parquet", sorted(row.log_z), vocabulary, bits, metadata)
                if sorted(row.log_z) != shard.temperatures:
                    facts.append(shard.close())
                    shard = _Shard(folder / f"shard-{len(facts):05d}.parquet", sorted(row.log_z), vocabulary, bits, metadata)
                shard.add(row, group_tokens)
                if shard.tokens >= shard_tokens:
                    facts.append(shard.close())
                    shard = None
            if shard is None and not facts:
                shard = _Shard(folder / "shard-00000.parquet", [], vocabulary, bits, metadata)
            if shard is not None:
                facts.append(shard.close())
                shard = None
        finally:
            if shard is not None:
                shard.abandon()
    return facts


class _Shard:
    """One Parquet file while it is written."""

    def __init__(self, path: Path, temperatures: list[float], vocabulary: int, bits: int, metadata: dict[str, str]) -> None:
        self.path, self.temperatures, self.tokens, self.rows = path, temperatures, 0, 0
        self._vocabulary, self._bits = vocabulary, bits
        self._errors = dict.fromkeys([1.0, *temperatures], 0.0)
        self._worst = self._tail = 0.0
        self._ids = self._waiting_tokens = 0
        self._waiting: list[dict[str, Any]] = []
        whole = {"redistill.schema": _SCHEMA, "redistill.record": "SoftTargets", **metadata}
        self._schema = _schema(temperatures).with_metadata(whole)
        self._handle = open(path, "wb")  # noqa: SIM115 - closed by close or abandon
        self._writer = pq.ParquetWriter(
            self._handle, self._schema, compression="zstd", compression_level=_LEVEL, use_dictionary=["teacher"]
        )

    def add(self, row: SoftTargets, group_tokens: int) -> None:
        codes, errors = encode(row.top_ids_TK, row.top_logprobs_TK, self._vocabulary, self._bits, row.log_z)
        error_T = errors[1.0]
        self._waiting.append(
            {
                "prompt_id": row.key.prompt_id,
                "sample_index": row.key.sample_index,
                "teacher": row.key.teacher,
                "sequence": row.sequence,
                "first": row.first,
                **codes._asdict(),
                "entropy": np.asarray(row.entropy_T, "<f2").tobytes(),
                **{_log_z(t): np.asarray(row.log_z[t], np.float32) for t in self.temperatures},
            }
        )
        self.rows += 1
        self.tokens += len(error_T)
        self._waiting_tokens += len(error_T)
        self._ids += int(np.frombuffer(codes.probabilities, "u1" if self._bits <= 8 else "<u2").size)
        for temperature, error_at_T in errors.items():
            self._errors[temperature] += float(error_at_T.sum())
        self._worst = max(self._worst, float(error_T.max(initial=0.0)))
        self._tail += float(np.asarray(row.tail_T, np.float64).sum())
        if self._waiting_tokens >= group_tokens:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting, self._waiting_tokens = [], 0

    def close(self) -> ShardFacts:
        self._flush()
        tokens = max(1, self.tokens)
        facts = ShardFacts(
            self.path.name,
            self.rows,
            self.tokens,
            round(self._handle.tell() / tokens, 2) if self.tokens else 0.0,
            round(self._ids / tokens, 2),
            float(f"{self._errors[1.0] / tokens:.3e}"),
            float(f"{self._worst:.3e}"),
            round(self._tail / tokens, 6),
            {f"{t:g}": float(f"{e / tokens:.3e}") for t, e in self._errors.items() if t != 1.0},
        )
        stated = {"tokens": self.tokens, "bytes_per_token": facts.bytes_per_token, "kl_error_nats": facts.kl_error}
        stated |= {f"kl_error_nats_at_{t}": e for t, e in facts.kl_error_at.items()}
        self._writer.add_key_value_metadata({f"redistill.{name}": str(value) for name, value in stated.items()})
        self._writer.close()
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._handle.close()
        return facts

    def abandon(self) -> None:
        """Close a file that will be removed, without its footer."""
        try:
            self._writer.close()
        except Exception as error:
            if not is_disk_error(error):
                raise
        finally:
            self._handle.close()


class SoftTargetFiles(Mapping[SignalKey, SoftTargets]):
    """Soft targets by the row that they are about and the teacher that gave them, read when they are needed.

    Raises:
        DataError: missing, damaged, another schema, or written for another tokenizer: its ids would name other tokens.
    """

    def __init__(self, path: str | os.PathLike[str], tokenizer_digest: str | None = None) -> None:
        self._path = Path(path)
        self._files: list[pq.ParquetFile] = []
        self._places: dict[SignalKey, tuple[int, int, int]] = {}
        self._held: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        shards = sorted(self._path.glob("shard-*.parquet"))
        if not shards:
            raise DataError(f"{path} is missing or has no soft targets; run the stage that writes it")
        for number, shard in enumerate(shards):
            file = _opened(shard)
            made_for = (file.schema_arrow.metadata or {})[b"redistill.tokenizer"].decode()
            if tokenizer_digest is not None and file.metadata.num_rows and made_for != tokenizer_digest:
                raise DataError(
                    f"{path} has soft targets of tokenizer {made_for[:12]}, but the student's is {tokenizer_digest[:12]}: the same ids mean "
                    "other tokens; use a student with the teacher's tokenizer, or set alpha to 0 (text only)"
                )
            self._files.append(file)
            for group in range(file.num_row_groups):
                columns = [column.to_pylist() for column in _read_group(file, shard, group, list(_KEY)).select(_KEY).columns]
                self._places.update({SignalKey(*key): (number, group, i) for i, key in enumerate(zip(*columns, strict=True))})
        self._bits = [int((f.schema_arrow.metadata or {})[b"redistill.bits"]) for f in self._files]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[SignalKey]:
        return iter(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: SignalKey) -> SoftTargets:
        number, group, i = self._places[key]
        if (number, group) in self._held:
            self._held.move_to_end((number, group))
        else:
            file = self._files[number]
            self._held[number, group] = _read_group(file, self._path / f"shard-{number:05d}.parquet", group)
            if len(self._held) > _GROUPS_HELD:
                self._held.popitem(last=False)
        row = {
            name: column[i].as_py()
            for name, column in zip(self._held[number, group].column_names, self._held[number, group].columns, strict=True)
        }
        ids_TK, logprobs_TK, tail_T = decode(Codes(*(row[name] for name in Codes._fields)), self._bits[number])
        return SoftTargets(
            key=SignalKey(*(row[name] for name in _KEY)),
            sequence=row["sequence"],
            first=row["first"],
            top_ids_TK=ids_TK,
            top_logprobs_TK=logprobs_TK,
            tail_T=tail_T,
            entropy_T=np.frombuffer(row["entropy"], "<f2").astype(np.float32),
            log_z={_temperature(n): np.asarray(v, np.float32) for n, v in row.items() if n.startswith("log_z_")},
        )


_KEY = ("prompt_id", "sample_index", "teacher")


def _schema(temperatures: list[float]) -> pa.Schema:
    binary = [(name, pa.binary()) for name in (*Codes._fields, "entropy")]
    log_z = [(_log_z(t), pa.list_(pa.float32())) for t in temperatures]
    keys = zip(_KEY, (pa.string(), pa.int32(), pa.string()), strict=True)
    return pa.schema([*keys, ("sequence", pa.string()), ("first", pa.int32()), *binary, *log_z])


def _log_z(temperature: float) -> str:
    return f"log_z_{temperature!r}"


def _temperature(column: str) -> float:
    return float(column.removeprefix("log_z_"))


def _opened(shard: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(shard)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{shard} is not a Parquet file ({str(error).splitlines()[0]}); remove it and run its stage again") from None
    metadata = {k.decode(): v.decode() for k, v in (file.schema_arrow.metadata or {}).items()}
    if metadata.get("redistill.record") != "SoftTargets":
        raise DataError(
            f"{shard} contains {metadata.get('redistill.record', 'no redistill record')} instead of SoftTargets; remove it and run its stage again"
        )
    if metadata.get("redistill.schema") != _SCHEMA:
        raise DataError(
            f"{shard} has schema {metadata.get('redistill.schema')}, but this version of redistill reads {_SCHEMA}; run its stage again"
        )
    return file


def _read_group(file: pq.ParquetFile, shard: Path, group: int, columns: list[str] | None = None) -> pa.Table:
    try:
        return file.read_row_group(group, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{shard} is damaged ({str(error).splitlines()[0]}); remove it and run the stage score again") from None
