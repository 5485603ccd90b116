"""Makes the buckets that it is called with, unless they are there. The address and the keys of the S3 store are in boto3's variables (AWS_ENDPOINT_URL, ...).

It waits for a store that starts at the same time, and ends with one line where the store refuses.
"""

import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError

WAIT_S = 120.0
THERE = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def make(s3, name: str) -> str:
    """Make one bucket; returns what became of it."""
    try:
        s3.head_bucket(Bucket=name)
        return "is there"
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
    try:
        s3.create_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in THERE:
            raise
    return "was made"


def main(names: list[str]) -> int:
    s3 = boto3.client("s3", config=Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1}))
    deadline = time.monotonic() + WAIT_S
    for name in names:
        while True:
            try:
                print(f"bucket {name} {make(s3, name)}", flush=True)
                break
            except (EndpointConnectionError, HTTPClientError) as error:
                reason = error
            except (ClientError, BotoCoreError) as error:
                # A store that starts may say 503. One that refuses the keys never says anything else.
                if not isinstance(error, ClientError) or error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    why = " ".join(str(error).split())
                    print(
                        f"error: the S3 store refuses bucket {name} ({why}); check S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY",
                        file=sys.stderr,
                    )
                    return 2
                reason = error
            if time.monotonic() > deadline:
                print(f"error: the S3 store does not respond ({reason}); see its log", file=sys.stderr)
                return 1
            time.sleep(1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
