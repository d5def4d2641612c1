"""Records between a folder and a bucket: what is there is not sent again, locks always are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from pipeline.errors import CloudError
from pipeline.record_store import fetch, store

BUCKET = "records"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        session = boto3.Session(region_name="us-east-1")
        s3: Any = session.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        yield session


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_another_machine_gets_what_one_stored_once(session: boto3.Session, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write(one, b1__record="1", locks__x="lock 1")
    write(one / ".hidden", part="half")
    assert store(session, BUCKET, one) == 2
    assert store(session, BUCKET, one) == 1  # the lock
    assert fetch(session, BUCKET, other) == 2
    assert ((other / "b1" / "record").read_text(), (other / "locks" / "x").read_text()) == ("1", "lock 1")
    write(one, locks__x="lock 2")
    store(session, BUCKET, one)
    assert fetch(session, BUCKET, other) == 1
    assert (other / "locks" / "x").read_text() == "lock 2"


def test_a_name_that_leads_out_of_the_folder_is_refused(session: boto3.Session, tmp_path: Path) -> None:
    s3: Any = session.client("s3")
    s3.put_object(Bucket=BUCKET, Key="records/../evil", Body=b"x")
    with pytest.raises(CloudError, match="a name that is none of ours"):
        fetch(session, BUCKET, tmp_path / "folder")
    assert not (tmp_path / "evil").exists()


def test_a_bucket_that_is_not_there_is_told(session: boto3.Session, tmp_path: Path) -> None:
    with pytest.raises(CloudError) as error:
        store(session, "elsewhere", tmp_path)
    assert (error.value.what, error.value.where) == ("the records could not be stored", "s3://elsewhere/records/")
