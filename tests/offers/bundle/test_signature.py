"""Signatures of bundles, held against OpenSSF's own signer and verifier."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from offers.bundle import signature
from offers.bundle.location import open_bundle
from offers.errors import BundleError
from offers.governance import release as releases
from offers.settings import Settings
from tests.support.warranties import WARRANTIES

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Pairs of private and public files by owner."""
    directory, pairs = tmp_path_factory.mktemp("keys"), {}
    for owner, curve in (("bank", ec.SECP256R1()), ("other", ec.SECP384R1())):
        key = ec.generate_private_key(curve)
        private, public = directory / f"{owner}.pem", directory / f"{owner}.pub"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        public.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        pairs[owner] = private, public
    return pairs


@pytest.fixture
def copy(shop_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop_bundle, tmp_path / shop_bundle.name))


def test_openssf_verifies_what_we_sign_and_we_what_it_signs(copy: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    from model_signing import signing, verifying

    for private, public in keys.values():
        path = signature.sign(copy, private)
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public)
        verifier.verify(copy, path)
        (copy / "card.txt").write_text("not signed")
        with pytest.raises(ValueError, match="Signature mismatch"):
            verifier.verify(copy, path)
        (copy / "card.txt").unlink()
        signing.Config().use_elliptic_key_signer(private_key=private).sign(copy, path)
        assert signature.check(copy, [public]) == public


def test_loading_demands_one_of_the_given_keys(copy: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    bank, other = keys["bank"], keys["other"]
    demanding = Settings(signers=(bank[1],))
    with pytest.raises(BundleError, match=r"expected its signature at .*\.sig, found nothing"):
        open_bundle(str(copy), demanding)
    signature.sign(copy, bank[0])
    assert open_bundle(str(copy), demanding).name == copy.name
    assert open_bundle(str(copy), Settings(signers=(other[1], bank[1]))).name == copy.name
    with pytest.raises(BundleError, match="is by another, or was changed"):
        open_bundle(str(copy), Settings(signers=(other[1],)))


def test_a_release_carries_its_bundles_signature(
    copy: Path, keys: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    bank, other = keys["bank"], keys["other"]
    signature.sign(copy, bank[0])
    release = releases.make(tmp_path / "releases", copy, WARRANTIES)
    assert releases.load(release.path, [bank[1]]).name == release.name
    assert release.path.stat().st_mode == copy.stat().st_mode
    with pytest.raises(BundleError, match="is by another"):
        releases.load(release.path, [other[1]])


def test_a_bundle_inside_a_release_is_not_signed_since_that_would_change_the_release(
    copy: Path, keys: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    private, public = keys["bank"]
    release = releases.make(tmp_path / "releases", copy, WARRANTIES)
    with pytest.raises(BundleError, match="found nothing: sign the bundle that it was made of"):
        releases.load(release.path, [public])
    with pytest.raises(BundleError, match="is part of a release, which a signature would change"):
        signature.sign(release.path / "bundle", private)
    assert releases.load(release.path, []).name == release.name


def _changed_byte(bundle: Path) -> None:
    path = bundle / "golden.json"
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))


def _foreign_file(bundle: Path) -> None:
    (bundle / "extra.json").write_text("{}")


def _changed_statement(bundle: Path) -> None:
    path = signature.beside(bundle)
    content = json.loads(path.read_text())
    content["dsseEnvelope"]["payload"] = content["dsseEnvelope"]["payload"][:-4] + "fQo="
    path.write_text(json.dumps(content))


def _no_json(bundle: Path) -> None:
    signature.beside(bundle).write_bytes(b"\xff[")


def _foreign_json(bundle: Path) -> None:
    signature.beside(bundle).write_text('["dsseEnvelope"]')


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_changed_byte, "golden.json is not as it was signed"),
        (_foreign_file, "extra.json is not as it was signed"),
        (_changed_statement, "is by another, or was changed"),
        (_no_json, "expected a Sigstore bundle"),
        (_foreign_json, "expected a Sigstore bundle"),
    ],
)
def test_what_was_changed_is_named(
    spoil: Callable[[Path], None], problem: str, copy: Path, keys: dict[str, tuple[Path, Path]]
) -> None:
    signature.sign(copy, keys["bank"][0])
    spoil(copy)
    with pytest.raises(BundleError, match=problem):
        signature.check(copy, [keys["bank"][1]])


def test_a_file_that_holds_no_such_key_is_refused(copy: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    private, public = keys["bank"]
    with pytest.raises(BundleError, match="expected a private key of the curve P-256"):
        signature.sign(copy, public)
    signature.sign(copy, private)
    with pytest.raises(BundleError, match="expected a public key of the curve P-256"):
        signature.check(copy, [private])
