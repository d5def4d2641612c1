"""Who signs the evidence."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pipeline.provenance import OWN_KEY, signing
from pipeline.render import Signing


def test_the_own_key_is_made_once_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVENPROOF_CACHE", str(tmp_path))
    first = signing(OWN_KEY)
    path = Path(first.signer)
    text = path.read_bytes()
    load_pem_private_key(text, password=None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert signing(OWN_KEY) == first
    assert path.read_bytes() == text


def test_a_kms_key_is_handed_on() -> None:
    address = "awskms:///arn:aws:kms:eu-central-1:111122223333:key/abc"
    assert signing(address) == Signing(mode="kms", signer=address)
