"""SeaweedFS of the test run: the S3 store of ``infra/compose.team.yaml``, as a process. It answers in some ways unlike moto, which answers like Amazon's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import free_port, until
from tests.team.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore

PROGRAM = Path(sys.executable).parent / "weed"
_OPTIONS = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    # It sends statistics to its makers unless told not to.
    "-master.telemetry=false",
    # Each bucket takes seven volumes, and there are as many as fit on the disk.
    "-master.volumeSizeLimitMB=64",
    "-volume.max=0",
    "-s3",
    "-s3.autoCreateBucket=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
)


def missing() -> str | None:
    """Why there is no store on this machine."""
    return None if os.access(PROGRAM, os.X_OK) else "no SeaweedFS; `make test` fetches it on Linux x86-64"


@contextmanager
def seaweedfs(folder: Path) -> Iterator[ObjectStore]:
    """A store while the block runs, with its objects and its log in ``folder``."""
    parts = ("master", "volume", "filer", "s3")
    ports = [f"-{part}.port{kind}={free_port()}" for part in parts for kind in ("", ".grpc")]
    url = f"http://127.0.0.1:{ports[-2].partition('=')[2]}"
    with open(folder / "seaweedfs.log", "ab") as log:
        process = subprocess.Popen(
            [str(PROGRAM), "server", f"-dir={folder}", f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock", *_OPTIONS, *ports],
            env={**os.environ, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        until(f"{url}/healthz", timeout_s=120, process=process)
        yield ObjectStore(url)
    finally:
        # It takes 15 seconds to end in order, and nobody needs what it holds.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
