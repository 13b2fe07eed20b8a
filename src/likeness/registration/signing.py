"""Signatures over a bundle by OpenSSF's model-signing, with a key pair and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from likeness.core.errors import InputError
from likeness.registration.log import TamperedError


def sign_folder(folder: Path, signature: Path, private_key: Path) -> None:
    """Write a signature (a Sigstore bundle) over every file below ``folder`` with an EC private key in PEM."""
    signing, _ = _library()
    require_key(private_key)
    try:
        signing.Config().use_elliptic_key_signer(private_key=private_key).sign(folder, signature)
    except (ValueError, TypeError) as error:
        remedy = "make one: openssl ecparam -name prime256v1 -genkey -noout -out private.pem"
        raise InputError(f"{private_key} cannot sign: {error}", remedy=remedy) from None


def verify_folder(folder: Path, signature: Path, public_key: Path, what: str) -> None:
    """Check the signature over ``folder``; ``what`` names it in the error.

    Raises:
        TamperedError: a file was changed, added, removed or renamed, or another key signed.
    """
    _, verifying = _library()
    from cryptography.exceptions import InvalidSignature

    require_key(public_key)
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(folder, signature)
    except (InvalidSignature, ValueError, TypeError, KeyError) as error:
        remedy = f"do not use it; ask whoever signs which key is right, this one is {public_key}"
        raise TamperedError(f"{what} is not what the holder of that key signed: {error}", remedy=remedy) from None


def _library() -> tuple[Any, Any]:
    try:
        from model_signing import signing, verifying
    except ImportError as error:
        raise InputError(f"signatures need model-signing: {error}", remedy="pip install 'likeness[signing]'") from None
    return signing, verifying


def require_key(key: Path) -> None:
    """Raises InputError unless there is such a file."""
    if not key.is_file():
        raise InputError(f"there is no key file {key}", remedy="give the path of a key in PEM format")
