"""One row of soft targets as a few bytes a token: delta-coded ids and quantised probabilities.

Ids take most of the bytes, and most of the listed ids of a sure position are noise. So the probabilities are coded first, on a uniform grid
of √p: the Kullback-Leibler error of such a grid is the same at every p (√p has unit Fisher information), where a grid of log p spends its
steps on what hardly weighs. What rounds to zero joins the tail and its id is not written at all, which makes ``bits`` the one knob
between size and error. The ids that are left are sorted and written as LEB128 differences.

The error is measured on what was given, never assumed: ``encode`` returns KL(given ‖ decoded) of every token over the K listed outcomes and the rest, at T = 1
and at every temperature whose log Z_T is stored. Heat raises what the grid rounds hardest: on a token that is 99.99 % sure 8 bits cost 1.5e-4 nats at T = 1 and 5e-2 at
T = 2, which is why ``score.bits`` is 12 where other temperatures are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from redistill.errors import DataError

_TAIL_STEPS = 2**16 - 1


class Codes(NamedTuple):
    """Bytes of one row: how many ids each token keeps, their differences, √p of each in steps, and √ of the tail mass in 65,535 steps."""

    counts: bytes
    ids: bytes
    probabilities: bytes
    tail: bytes


def encode(
    top_ids_TK: np.ndarray, top_logprobs_TK: np.ndarray, vocabulary: int, bits: int, log_z: Mapping[float, np.ndarray] | None = None
) -> tuple[Codes, dict[float, np.ndarray]]:
    """The codes of a row (nats at T = 1; −inf is an unused place), and by temperature the error in nats that they cost each token.

    ``log_z`` are the row's log Z_T (T tokens each) of temperatures other than 1; the error at 1 is always told.

    Raises:
        DataError: an id outside the vocabulary, NaN, a positive log-probability, or probabilities that sum to more than one.
    """
    top_ids_TK, steps = np.asarray(top_ids_TK, np.int64), 2**bits - 1
    p_TK = np.exp(np.asarray(top_logprobs_TK, np.float64))
    used_TK = p_TK > 0
    if not np.isfinite(p_TK).all() or (p_TK.sum(-1) > 1.01).any():
        raise DataError("soft targets contain NaN or probabilities that sum to more than 1; check the teacher's logprobs")
    if ((top_ids_TK < 0) | (top_ids_TK >= vocabulary))[used_TK].any():
        raise DataError(
            f"soft targets contain token ids outside the vocabulary of {vocabulary:,}; they belong to another tokenizer: use a student with the teacher's tokenizer"
        )
    codes_TK = np.minimum(np.rint(np.sqrt(p_TK) * steps), steps).astype(np.int64)
    order_TK = np.argsort(np.where(codes_TK > 0, top_ids_TK, vocabulary), axis=-1, kind="stable")
    ids_TK, codes_TK, p_TK = (np.take_along_axis(a, order_TK, -1) for a in (top_ids_TK, codes_TK, p_TK))
    kept_TK = codes_TK > 0
    counts_T = kept_TK.sum(-1)
    tail_T = np.clip(1.0 - np.where(kept_TK, p_TK, 0.0).sum(-1), 0.0, 1.0)
    tail_codes_T = np.rint(np.sqrt(tail_T) * _TAIL_STEPS).astype("<u2")
    previous_TK = np.concatenate([np.full((len(ids_TK), 1), -1, np.int64), ids_TK[:, :-1]], -1)[:, : ids_TK.shape[1]]
    gaps = (ids_TK - previous_TK - 1)[kept_TK]
    if (gaps < 0).any():
        raise DataError("soft targets contain a token id twice at one position; check the teacher's logprobs")
    codes = Codes(
        varints(counts_T), varints(gaps), codes_TK[kept_TK].astype("u1" if bits <= 8 else "<u2").tobytes(), tail_codes_T.tobytes()
    )
    decoded_TK, decoded_tail_T = _normalised(codes_TK, tail_codes_T, steps)
    errors = {1.0: _error(p_TK, kept_TK, decoded_TK, decoded_tail_T, vocabulary)}
    for temperature, log_z_T in (log_z or {}).items():
        z_T1 = np.exp(np.asarray(log_z_T, np.float64))[:, None]
        given_TK, back_TK = (x_TK ** (1.0 / temperature) / z_T1 for x_TK in (p_TK, decoded_TK))
        errors[temperature] = _error(given_TK, kept_TK, back_TK, np.clip(1.0 - back_TK.sum(-1), 0.0, 1.0), vocabulary)
    return codes, errors


def decode(codes: Codes, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (sorted; unused places hold 0), log-probabilities (unused: −inf) and tail masses that ``encode`` wrote.

    Raises:
        DataError: the parts do not fit each other.
    """
    counts_T, gaps = from_varints(codes.counts), from_varints(codes.ids)
    tail_T = np.frombuffer(codes.tail, "<u2")
    flat = np.frombuffer(codes.probabilities, "u1" if bits <= 8 else "<u2")
    if len(counts_T) != len(tail_T) or not counts_T.sum() == len(gaps) == len(flat):
        raise DataError("a row of soft targets is damaged: its parts have different lengths; run the stage score again")
    width = int(counts_T.max(initial=0))
    kept_TK = np.arange(width) < counts_T[:, None]
    gaps_TK, codes_TK = np.zeros((len(counts_T), width), np.int64), np.zeros((len(counts_T), width), np.int64)
    gaps_TK[kept_TK], codes_TK[kept_TK] = gaps + 1, flat
    ids_TK = np.where(kept_TK, np.cumsum(gaps_TK, -1) - 1, 0)
    p_TK, decoded_tail_T = _normalised(codes_TK, tail_T, 2**bits - 1)
    with np.errstate(divide="ignore"):
        return ids_TK.astype(np.int32), np.log(p_TK).astype(np.float32), decoded_tail_T.astype(np.float32)


def _normalised(codes_TK: np.ndarray, tail_codes_T: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    p_TK, tail_T = (codes_TK / steps) ** 2, (tail_codes_T.astype(np.float64) / _TAIL_STEPS) ** 2
    # A token of which nothing was listed, and nothing is left, says nothing: all its mass is tail.
    tail_T = np.where((p_TK.sum(-1) == 0) & (tail_T == 0), 1.0, tail_T)
    whole_T = p_TK.sum(-1) + tail_T
    return p_TK / whole_T[:, None], tail_T / whole_T


def _error(p_TK: np.ndarray, kept_TK: np.ndarray, decoded_TK: np.ndarray, decoded_tail_T: np.ndarray, vocabulary: int) -> np.ndarray:
    """KL(given ‖ decoded) over the listed outcomes and the rest; what joined the tail has an even share of it."""
    used_TK = p_TK > 0
    listed_T, kept_T = used_TK.sum(-1), kept_TK.sum(-1)
    share_T = decoded_tail_T / np.maximum(vocabulary - kept_T, 1)
    rest_T = np.clip(1.0 - p_TK.sum(-1), 0.0, 1.0)
    # The smallest step that is ever decoded keeps a tail that rounded to nothing from making the error infinite.
    q_TK = np.maximum(np.where(kept_TK, decoded_TK, share_T[:, None]), 1e-12)
    q_rest_T = np.maximum(share_T * (vocabulary - listed_T), 1e-12)
    inside_TK = np.where(used_TK, p_TK * np.log(np.where(used_TK, p_TK, 1.0) / q_TK), 0.0)
    outside_T = np.where(rest_T > 0, rest_T * np.log(np.where(rest_T > 0, rest_T, 1.0) / q_rest_T), 0.0)
    error_T: np.ndarray = np.maximum(inside_TK.sum(-1) + outside_T, 0.0)
    return error_T


def varints(values: np.ndarray) -> bytes:
    """LEB128: seven bits a byte, lowest first; the high bit says that more follow."""
    values = np.asarray(values, np.int64)
    width = max(1, -(-int(values.max(initial=0)).bit_length() // 7))
    shifts = 7 * np.arange(width)
    parts = (values[:, None] >> shifts) & 0x7F
    more = (values[:, None] >> (shifts + 7)) > 0
    wanted = np.concatenate([np.ones((len(values), 1), bool), more[:, :-1]], -1)
    data: bytes = (parts | (more << 7))[wanted].astype(np.uint8).tobytes()
    return data


def from_varints(data: bytes) -> np.ndarray:
    read = np.frombuffer(data, np.uint8)
    if len(read) and read[-1] >= 0x80:
        raise DataError("a row of soft targets is damaged: it ends within a number; run the stage score again")
    ends = np.flatnonzero(read < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    values = np.zeros(len(ends), np.int64)
    for place in range(int((ends - starts).max(initial=-1)) + 1):
        has = starts + place <= ends
        values[has] |= (read[starts[has] + place].astype(np.int64) & 0x7F) << (7 * place)
    return values
