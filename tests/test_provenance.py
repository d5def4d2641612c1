"""Who signs the evidence."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pipeline.provenance import OWN_KEY, ensure_key, signing
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


def test_what_a_killed_start_left_does_not_open_the_key_to_others(tmp_path: Path) -> None:
    left = tmp_path / "key.part"
    left.touch(mode=0o644)
    left.chmod(0o644)
    assert ensure_key(tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_of_two_first_starts_at_once_both_use_the_key_of_the_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.pem"
    generate = ec.generate_private_key

    def while_another_is_faster(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
        monkeypatch.undo()
        ensure_key(path)
        theirs.append(path.read_bytes())
        return generate(curve)

    theirs: list[bytes] = []
    monkeypatch.setattr(ec, "generate_private_key", while_another_is_faster)
    assert ensure_key(path).read_bytes() == theirs[0]
    assert list(tmp_path.iterdir()) == [path]
