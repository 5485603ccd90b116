"""make_buckets.py against a real S3 server: buckets are made once, and a store that refuses the keys is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.infra.validators import INFRA
from tests.servers import free_port, stop, until


@pytest.fixture
def s3() -> Iterator[str]:
    """moto, which asks for known keys after this number of requests."""
    port = free_port()
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "5"}
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], env=environment, start_new_session=True
    )
    try:
        until(f"http://127.0.0.1:{port}/moto-api/", process=server)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(server)


def make(url: str, *names: str) -> subprocess.CompletedProcess[str]:
    keys = {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "nobody"}
    command = [sys.executable, str(INFRA / "make_buckets.py"), *names]
    return subprocess.run(command, env={**os.environ, **keys}, capture_output=True, text=True, check=False, timeout=120)


def test_buckets_are_made_once_and_wrong_keys_are_one_line(s3: str) -> None:
    first = make(s3, "redistill-mlflow")
    assert (first.returncode, first.stdout) == (0, "bucket redistill-mlflow was made\n"), first.stderr
    again = make(s3, "redistill-mlflow")
    assert (again.returncode, again.stdout) == (0, "bucket redistill-mlflow is there\n"), again.stderr
    for _ in range(3):
        refused = make(s3, "redistill-mlflow", "redistill-dvc")
    assert refused.returncode == 2 and refused.stdout == ""
    [line] = refused.stderr.splitlines()
    assert (
        line.startswith("error: the S3 store refuses bucket redistill-mlflow") and "S3_SECRET_ACCESS_KEY" in line and "nobody" not in line
    )


def test_a_name_that_is_no_bucket_is_one_line(s3: str) -> None:
    refused = make(s3, "not a bucket")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and refused.stderr.startswith("error: "), refused.stderr
