"""The object store by the role of a service account, as on EKS: keys from STS over the wire, renewed in time."""

import re
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import pytest

from offers.data.sources import fetch
from offers.errors import SourceError, StorageError
from offers.settings import S3Settings, Settings
from offers.store import credentials
from offers.store.store import open_store
from tests.support.rendered import containers, of, rendered
from tests.support.s3_double import S3Double
from tests.support.small import SMALL, contract
from tests.support.sts_double import StsDouble
from tests.support.trees import FILES, bundle, tree

ROLE = "arn:aws:iam::123456789012:role/offers-serving"


@pytest.fixture
def sts() -> Iterator[StsDouble]:
    with StsDouble() as double:
        yield double


@pytest.fixture
def env(s3: S3Double, sts: StsDouble, tmp_path: Path) -> dict[str, str]:
    """What a pod of an annotated service account finds."""
    token = tmp_path / "token"
    token.write_text("tiger")
    return {
        "OFFERS_HOME": str(tmp_path / "home"),
        "OFFERS_S3_ENDPOINT": f"http://{s3.address}",
        "AWS_REGION": "eu-central-1",
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ENDPOINT_URL_STS": sts.url,
    }


def signers(s3: S3Double) -> list[tuple[str, str | None]]:
    """The key and the session token of each request to the store."""
    return [
        (
            re.findall(r"Credential=([^/]+)/", request.headers["Authorization"])[0],
            request.headers["X-Amz-Security-Token"],
        )
        for request in s3.requests
    ]


def test_a_role_signs_and_is_asked_for_once(s3: S3Double, sts: StsDouble, env: dict[str, str], tmp_path: Path) -> None:
    store = open_store("s3://bank/offers", Settings.from_env(env))
    assert sts.asked == []
    store.put_directory(bundle(tmp_path / "bundle"), "b")
    store.get_directory("b", tmp_path / "copy")
    assert tree(tmp_path / "copy") == FILES
    assert set(signers(s3)) == {("key-1", "session-1")}
    (asked,) = sts.asked
    assert asked == {
        "Version": "2011-06-15",
        "Action": "AssumeRoleWithWebIdentity",
        "WebIdentityToken": "tiger",
        "RoleArn": ROLE,
        "RoleSessionName": "offers",
    }
    assert sts.paths == ["/"]


def test_keys_come_first(s3: S3Double, sts: StsDouble, env: dict[str, str]) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "mine", "AWS_SESSION_TOKEN": "today"}
    open_store("s3://bank", Settings.from_env(env | keys)).write_bytes("a", b"x")
    assert set(signers(s3)) == {("me", "today")}
    assert sts.asked == []


def test_keys_that_expire_are_fetched_again_by_the_token_as_it_is_then(
    s3: S3Double, sts: StsDouble, env: dict[str, str]
) -> None:
    store = open_store("s3://bank", Settings.from_env(env))
    sts.lasts = -60
    store.write_bytes("a", b"x")
    Path(env["AWS_WEB_IDENTITY_TOKEN_FILE"]).write_text("lion\n")
    sts.lasts = 3600
    store.write_bytes("b", b"x")
    store.write_bytes("c", b"x")
    assert signers(s3) == [("key-1", "session-1"), ("key-2", "session-2"), ("key-2", "session-2")]
    assert [asked["WebIdentityToken"] for asked in sts.asked] == ["tiger", "lion"]


def test_a_download_by_a_role(s3: S3Double, env: dict[str, str]) -> None:
    s3.buckets["bank"]["small.csv"] = SMALL
    settings = Settings.from_env(env)
    assert fetch(contract(), settings, "s3://bank/small.csv").read_bytes() == SMALL


def refused(env: dict[str, str], message: str) -> None:
    """The store and a download say so in a sentence, without the token."""
    settings = Settings.from_env(env)
    with pytest.raises(StorageError, match=message) as stored:
        open_store("s3://bank", settings).write_bytes("a", b"x")
    with pytest.raises(SourceError, match=message) as fetched:
        fetch(contract(), settings, "s3://bank/small.csv")
    assert "tiger" not in f"{stored.value}{fetched.value}"
    assert "\n" not in f"{stored.value}{fetched.value}"


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
        (400, "ExpiredTokenException", "Token expired"),
        (400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account"),
    ],
)
def test_sts_refuses(sts: StsDouble, env: dict[str, str], status: int, code: str, reason: str) -> None:
    sts.refuse(status, code, reason)
    refused(env, f"^{sts.url}: the role is refused: {code}: {reason}; check AWS_ROLE_ARN, and whom that role trusts")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((502, "<p>Bad<p>"), "the role is refused: it answers 502; check"),
        ((302, ""), "the role is refused: it answers 302; check"),
        ((200, "<!doctype html><p>Hello"), rf"expected the keys of role {ROLE} \(.*\); check AWS_REGION"),
        ((200, "<Hello/>"), rf"expected the keys of role {ROLE} \(.*AssumeRoleWithWebIdentityResult.* not found\)"),
    ],
)
def test_what_is_no_sts(sts: StsDouble, env: dict[str, str], answer: tuple[int, str], reason: str) -> None:
    sts.answer = answer
    refused(env, f"^{sts.url}: {reason}")


def test_nobody_is_where_sts_should_be(env: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    with socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{bound.getsockname()[1]}"
        refused(env | {"AWS_ENDPOINT_URL_STS": nobody}, rf"^{nobody}: no answer \(.*refused\); check AWS_REGION")
    assert "Connection refused" in caplog.text
    assert "tiger" not in caplog.text


def test_no_token(env: dict[str, str]) -> None:
    file = env["AWS_WEB_IDENTITY_TOKEN_FILE"]
    Path(file).unlink()
    refused(
        env, rf"^{file}: expected the token of the service account \(.*No such file.*\); check AWS_WEB_IDENTITY_TOKEN"
    )


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ({"AWS_ROLE_ARN": ROLE}, "only AWS_ROLE_ARN"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "token"}, "only AWS_WEB_IDENTITY_TOKEN_FILE"),
        ({"AWS_ACCESS_KEY_ID": "me"}, "only AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "tiger", "AWS_ROLE_ARN": ROLE}, "only AWS_SECRET_ACCESS_KEY and AWS_ROLE_ARN"),
    ],
)
def test_half_of_what_is_needed_to_sign(s3: S3Double, tmp_path: Path, known: dict[str, str], found: str) -> None:
    expected = "expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE"
    home = {"OFFERS_HOME": str(tmp_path), "OFFERS_S3_ENDPOINT": f"http://{s3.address}"}
    refused(home | known, f"{expected}, .*; got {found}(;|$)")
    assert s3.requests == []


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (S3Settings(region="eu-central-1"), "https://sts.eu-central-1.amazonaws.com"),
        (S3Settings(region="cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn"),
        (S3Settings(), "https://sts.amazonaws.com"),
        (S3Settings(region="eu-central-1", sts="https://sts.bank.example"), "https://sts.bank.example"),
    ],
)
def test_the_region_s_own_sts_is_asked(settings: S3Settings, address: str) -> None:
    assert credentials._sts(settings) == address


def test_the_overlay_for_aws_names_one_region_and_no_keys() -> None:
    objects = rendered("overlays/aws")
    (region,) = (item["data"]["AWS_REGION"] for item in of(objects, "ConfigMap") if "OFFERS_BUCKET" in item["data"])
    endpoints = {item["data"]["OFFERS_S3_ENDPOINT"] for item in of(objects, "ConfigMap")}
    assert endpoints == {f"https://s3.{region}.amazonaws.com"}
    (serving,) = of(objects, "ServiceAccount", "serving")
    # What KServe reads of an account with a role; an endpoint there would be asked for the role as well.
    assert serving["metadata"]["annotations"]["serving.kserve.io/s3-region"] == region
    assert "serving.kserve.io/s3-endpoint" not in serving["metadata"]["annotations"]
    for pod, container in containers(objects):
        assert not [source for source in container.get("envFrom", []) if "secretRef" in source]
        (account,) = of(objects, "ServiceAccount", pod["spec"]["serviceAccountName"])
        assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].startswith("arn:aws:iam::")
        assert not account.get("secrets")


def test_retraining_deploys_on_aws_as_elsewhere() -> None:
    def deploying(path: str) -> list[str]:
        (trigger,) = of(rendered(path), "Deployment", "retraining-trigger")
        arguments = trigger["spec"]["template"]["spec"]["containers"][0]["args"]
        return [one for one in arguments if one.startswith(("--service=", "--smoke-url="))]

    assert deploying("overlays/aws") == deploying("base") != []
