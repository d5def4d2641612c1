"""Records and locks of builds that have no disk of their own: in, a bucket and a folder; out, both hold the same.

A record never changes once it is written, so what is there by name and size is not sent again. A lock does, and the
newer build's is the one that counts; the project lets one build run at a time.
"""

from pathlib import Path, PurePosixPath
from typing import Any, Final

import boto3

from pipeline.aws_errors import aws_errors
from pipeline.errors import CloudError

PREFIX: Final = "records/"
LOCKS: Final = "locks/"
_REMEDY: Final = "allow s3:ListBucket on the bucket, s3:GetObject and s3:PutObject below records/, and its KMS key"


def fetch(session: boto3.Session, bucket: str, folder: Path, prefix: str = PREFIX) -> int:
    """Bring what the folder lacks, and every lock; how many files that were. Raises CloudError."""
    s3: Any = session.client("s3")
    number = 0
    with aws_errors("the records could not be fetched", where=f"s3://{bucket}/{PREFIX}", remedy=_REMEDY):
        for key, size in _keys(s3, bucket, prefix).items():
            path = folder / _below(key, prefix)
            if not key.startswith(PREFIX + LOCKS) and path.is_file() and path.stat().st_size == size:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, key, str(path))
            number += 1
    return number


def store(session: boto3.Session, bucket: str, folder: Path, prefix: str = PREFIX) -> int:
    """Send what the bucket lacks, and every lock; how many files that were. Raises CloudError.

    Locks go last: who finds one finds the record that it names.
    """
    s3: Any = session.client("s3")
    with aws_errors("the records could not be stored", where=f"s3://{bucket}/{PREFIX}", remedy=_REMEDY):
        there = _keys(s3, bucket, prefix)
        ours = {
            prefix + str(PurePosixPath(*path.relative_to(folder).parts)): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        }
        wanted = [
            key for key, path in ours.items() if key.startswith(PREFIX + LOCKS) or there.get(key) != path.stat().st_size
        ]
        for key in sorted(wanted, key=lambda key: key.startswith(PREFIX + LOCKS)):
            s3.upload_file(str(ours[key]), bucket, key)
    return len(wanted)


def _keys(s3: Any, bucket: str, prefix: str) -> dict[str, int]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", [])}


def _below(key: str, prefix: str) -> str:
    """The place of a key in the folder. Raises CloudError for one that would lie outside."""
    name = key.removeprefix(prefix)
    if not name or name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise CloudError(
            "the bucket holds a record with a name that is none of ours",
            expected="records/BAKE_ID/FILE",
            found=key,
            remedy="find out who put it there before anything else",
        )
    return name
