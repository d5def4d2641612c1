"""Who signs provenance and SBOM: in, the catalog's word for it; out, what Packer's post-processor is given."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pipeline import paths
from pipeline.render import Signing

OWN_KEY: Final = "own-key"


def signing(signer: str) -> Signing:
    """`own-key` as a key file of this machine, made on first use; anything else is the address of a KMS key."""
    if signer == OWN_KEY:
        return Signing(mode="key", signer=str(ensure_key(paths.cache_root() / "provenance-key.pem")))
    return Signing(mode="kms", signer=signer)


def ensure_key(path: Path) -> Path:
    """A P-256 key in PEM, readable by its owner only; an existing one is never replaced.

    Of two first starts at once the faster one's key counts for both.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as draft:
                draft.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
                draft.flush()
                os.fsync(draft.fileno())
            with suppress(FileExistsError):
                os.link(name, path)  # whole or not at all, and unlike a rename never over another's
        finally:
            Path(name).unlink()
    return path
