"""The signature of a bundle, in a file next to it: a DSSE envelope around an in-toto statement of all files' SHA-256.

The format is that of OpenSSF's model signing (a Sigstore bundle, v0.3, with a public key), so that
`model_signing verify key BUNDLE --signature BUNDLE.sig --public_key PUBLIC` accepts it. Keys must be on a curve that
this tool supports: P-256, P-384 or P-521.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from offers.errors import BundleError
from offers.files import os_errors, sha256_of

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_HASHES = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
_LARGEST = 10_000_000
_ANEW = "sign the bundle that it was made of by 'offers bundle sign', and make a release of that by 'offers model add'"


def beside(bundle: Path) -> Path:
    """Path of a bundle's signature."""
    return bundle.with_name(f"{bundle.name}.sig")


def sign(bundle: Path, key: Path) -> Path:
    """Sign every file of a bundle. The signature replaces one that exists already.

    Parameters
    ----------
    bundle : the bundle's directory, which is not verified here
    key : private key in PEM, without a password

    Raises
    ------
    BundleError
        the file holds no such key, or the bundle is part of a release
    StorageError
        the signature can't be written
    """
    if _in_release(bundle):
        raise BundleError(f"bundle {bundle}: is part of a release, which a signature would change: {_ANEW}")
    private = _private(key)
    payload = json.dumps(_statement(bundle), sort_keys=True).encode()
    signature = private.sign(_authenticated(payload), _algorithm(private.public_key()))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
    }
    material = {"publicKey": {"hint": _hint(private.public_key())}, "tlogEntries": []}
    content = {"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}
    target = beside(bundle)
    with os_errors(target):
        target.write_text(json.dumps(content, sort_keys=True) + "\n", "utf-8")
    return target


def check(bundle: Path, keys: Sequence[Path]) -> Path:
    """Check that one of the given keys has signed the bundle in its present state; returns that key's file.

    Parameters
    ----------
    keys : public keys in PEM

    Raises
    ------
    BundleError
        there is no signature, none of these keys made it, or it covers other files
    """
    path = beside(bundle)
    if not path.is_file():
        advice = _ANEW if _in_release(bundle) else "sign it by 'offers bundle sign'"
        raise BundleError(f"bundle {bundle}: expected its signature at {path}, found nothing: {advice}")
    payload, signature = _envelope(path)
    for key in keys:
        public = _public(key)
        with suppress(InvalidSignature):
            public.verify(signature, _authenticated(payload), _algorithm(public))
            _compare(bundle, path, payload)
            return key
    names = ", ".join(map(str, keys)) or "no key"
    raise BundleError(f"bundle {bundle}: expected a signature by {names}; {path} is by another, or was changed")


def _in_release(bundle: Path) -> bool:
    """Whether the directory is the bundle of a release, whose manifest and catalogue stand beside it."""
    return all((bundle.resolve().parent / name).is_file() for name in ("manifest.json", "catalogue.yaml"))


def _statement(bundle: Path) -> dict[str, Any]:
    files = _digests(bundle)
    resources = [{"name": name, "algorithm": "sha256", "digest": digest} for name, digest in files.items()]
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in files.values())).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": bundle.resolve().name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "resources": resources,
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
        },
    }


def _digests(bundle: Path) -> dict[str, str]:
    """Hash every file by SHA-256; digests by path, in the order of paths."""
    with os_errors(bundle, BundleError):
        files = sorted(path for path in bundle.rglob("*") if path.is_file())
        return {path.relative_to(bundle).as_posix(): sha256_of(path) for path in files}


def _compare(bundle: Path, path: Path, payload: bytes) -> None:
    try:
        statement = json.loads(payload)
        form = statement["_type"], statement["predicateType"]
        resources = statement["predicate"]["resources"]
        signed = {resource["name"]: resource["digest"] for resource in resources}
    except (ValueError, KeyError, TypeError, RecursionError):
        form, signed = ("", ""), {}
    if form != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise BundleError(f"{path}: expected a statement of files as OpenSSF's model signing writes it, got another")
    present = _digests(bundle)
    if differing := sorted(name for name in present.keys() | signed if present.get(name) != signed.get(name)):
        raise BundleError(f"bundle {bundle}: {', '.join(differing)} is not as it was signed: fetch the bundle again")


def _envelope(path: Path) -> tuple[bytes, bytes]:
    try:
        envelope = json.loads(path.read_bytes()[:_LARGEST])["dsseEnvelope"]
        (entry,) = envelope["signatures"]
        payload, signature = (base64.b64decode(text, validate=True) for text in (envelope["payload"], entry["sig"]))
        kind = envelope["payloadType"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        kind = None
    if kind != PAYLOAD_TYPE:
        raise BundleError(f"{path}: expected a Sigstore bundle with one DSSE signature, found something else")
    return payload, signature


def _authenticated(payload: bytes) -> bytes:
    """Build the bytes to sign: DSSE's pre-authentication encoding (DSSE v1, protocol.md)."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _private(path: Path) -> ec.EllipticCurvePrivateKey:
    key = None
    with os_errors(path, BundleError):
        content = path.read_bytes()
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = serialization.load_pem_private_key(content, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise BundleError(
            f"{path}: expected a private key of the curve P-256, P-384 or P-521 in PEM, without a password"
        )
    return key


def _public(path: Path) -> ec.EllipticCurvePublicKey:
    key = None
    with os_errors(path, BundleError):
        content = path.read_bytes()
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = serialization.load_pem_public_key(content)
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise BundleError(f"{path}: expected a public key of the curve P-256, P-384 or P-521 in PEM")
    return key


def _algorithm(public: ec.EllipticCurvePublicKey) -> ec.ECDSA:
    return ec.ECDSA(_HASHES[public.curve.name])


def _hint(public: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the public key in PEM, by which a verifier recognises the right key."""
    content = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(content).hexdigest()
