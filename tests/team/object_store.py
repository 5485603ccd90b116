"""An S3 store of the test run: moto's server as a process, with real signatures where a test wants them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.servers import free_port, stop, until

ACCESS_KEY, SECRET_KEY = "AKIATESTSOFREDISTILL", "sEcr3t/of+the=object~store"
_EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True)
class ObjectStore:
    """``url`` is its address."""

    url: str

    def environment(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY, url: str | None = None) -> dict[str, str]:
        """What boto3, MLflow and DVC read."""
        return {
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url or self.url,
            "MLFLOW_S3_ENDPOINT_URL": url or self.url,
        }

    def client(self, service: str = "s3", access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Any:
        import boto3

        return boto3.client(
            service, endpoint_url=self.url, aws_access_key_id=access_key, aws_secret_access_key=secret_key, region_name="us-east-1"
        )

    def create(self, bucket: str) -> None:
        self.client().create_bucket(Bucket=bucket)

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Every object below a prefix, by what comes behind it."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return {key.removeprefix(prefix): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    @contextmanager
    def editing(self, bucket: str, prefix: str) -> Iterator[Path]:
        """The objects below a prefix as a folder; what is changed there is changed in the store."""
        client, prefix = self.client(), f"{prefix.strip('/')}/"
        with tempfile.TemporaryDirectory() as scratch:
            folder, before = Path(scratch) / "root", self.objects(bucket, prefix)
            folder.mkdir()
            for name, content in before.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            yield folder
            after = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for name in before.keys() - after.keys():
            client.delete_object(Bucket=bucket, Key=prefix + name)
        for name, content in after.items():
            if before.get(name) != content:
                client.put_object(Bucket=bucket, Key=prefix + name, Body=content)

    def demand_keys(self) -> tuple[str, str]:
        """From now on only keys that the store made itself are accepted; returns one."""
        iam = self.client("iam")
        iam.create_user(UserName="team")
        iam.put_user_policy(UserName="team", PolicyName="everything", PolicyDocument=json.dumps(_EVERYTHING))
        key = iam.create_access_key(UserName="team")["AccessKey"]
        httpx.post(f"{self.url}/moto-api/reset-auth", content=b"0").raise_for_status()
        return str(key["AccessKeyId"]), str(key["SecretAccessKey"])

    def replace_key(self, key: tuple[str, str]) -> tuple[str, str]:
        """Delete a key that ``demand_keys`` returned; returns the one that is accepted from now on."""
        iam = self.client("iam", *key)
        new = iam.create_access_key(UserName="team")["AccessKey"]
        self.client("iam", new["AccessKeyId"], new["SecretAccessKey"]).delete_access_key(UserName="team", AccessKeyId=key[0])
        return str(new["AccessKeyId"]), str(new["SecretAccessKey"])


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """A store while the block runs. It keeps its objects in memory; ``folder`` gets its log."""
    port = free_port()
    with open(folder / "object-store.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            env={**os.environ, "MOTO_PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until(f"http://127.0.0.1:{port}/moto-api/data.json", timeout_s=120, process=process)
        yield ObjectStore(f"http://127.0.0.1:{port}")
    finally:
        stop(process)


def missing() -> str | None:
    """Why there is no store on this machine."""
    return None if _installed("moto") and _installed("boto3") else "moto or boto3 is not installed; `make setup`"


def _installed(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None
