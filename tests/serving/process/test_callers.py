"""Callers with tokens, without, and with too many requests; certificates for both protocols."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from offers.errors import ServiceError
from offers.http_client import ClientTls
from serving.process.callers import Callers, Keys, Terms
from serving.process.listening import Tls
from serving.process.server import Address, Door, Server
from serving.protocol.kserve import GRPCInferenceServiceStub, Model, messages
from serving.ranker.predictor_client import SecurePredictorConfig
from tests.support.certificates import Authority
from tests.support.tokens import ISSUER, KEY, public, token

OTHER = ec.generate_private_key(ec.SECP256R1())
TERMS = Terms("offers", ISSUER)


class Constant(Model):
    platform, version = "test", "1"

    def __init__(self) -> None:
        super().__init__("constant")
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        return {"predictions": [1]}


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public(KEY, "one")]}))
    return path


def served(door: Door, test: Callable[[Address], Awaitable[None]]) -> None:
    async def run() -> None:
        server = Server([Constant()], grace=1, linger=0, door=door)
        address = await server.start(Address(http_port=0, grpc_port=0))
        try:
            await test(address)
        finally:
            await server.stop()

    asyncio.run(run())


def test_a_token_lets_in_and_names_the_caller_in_metrics(jwks: Path) -> None:
    async def test(address: Address) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{address.http_port}", trust_env=False) as client:
            path, body = "/v1/models/constant:predict", {"instances": []}
            refused = await client.post(path, json=body)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            for open_path in ("/", "/metrics", "/v2/health/live", "/v2/health/ready"):
                assert (await client.get(open_path)).status_code == 200
            assert (await client.get("/openapi.json")).status_code == 401
            answer = await client.post(path, json=body, headers={"authorization": f"Bearer {token()}"})
            assert answer.json() == {"predictions": [1]}
            assert 'offers_caller_requests_total{caller="shop",status="200"}' in (await client.get("/metrics")).text
        async with grpc.aio.insecure_channel(f"127.0.0.1:{address.grpc_port}") as channel:
            stub = GRPCInferenceServiceStub(channel)
            assert (await stub.ServerLive(messages.ServerLiveRequest())).live
            request = messages.ModelMetadataRequest(name="constant")
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.ModelMetadata(request)
            assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
            described = await stub.ModelMetadata(request, metadata=(("authorization", f"Bearer {token()}"),))
            assert described.name == "constant"

    served(Door(Callers(Keys(str(jwks)), TERMS)), test)


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ("", "Bearer TOKEN"),
        ("Basic c2hvcDpzaG9w", "Bearer TOKEN"),
        ("Bearer x.y.z", "valid token"),
        (f"Bearer {token(exp=1)}", "expired"),
        (f"Bearer {token(exp=None)}", "exp"),
        (f"Bearer {token(sub=None)}", "sub"),
        (f"Bearer {token(aud='another')}", "udience"),
        (f"Bearer {token(iss='https://evil.example')}", "ssuer"),
        (f"Bearer {token(OTHER)}", "Signature"),
        (f"Bearer {token(kid='two')}", "kid"),
        (f"Bearer {token(None, algorithm='none')}", "alg"),
        (f"Bearer {token('x' * 32, algorithm='HS256')}", "alg"),
    ],
)
def test_refuses_tokens_of_others(jwks: Path, header: str, word: str) -> None:
    with pytest.raises(Exception, match=word) as refused:
        asyncio.run(Callers(Keys(str(jwks)), TERMS).admit(header))
    assert getattr(refused.value, "status", None) == 401


def test_a_quota_is_each_callers_own(jwks: Path) -> None:
    async def run() -> None:
        callers = Callers(Keys(str(jwks)), Terms("offers", quota=0.01))
        assert await callers.admit(f"Bearer {token()}") == "shop"
        with pytest.raises(Exception, match=r"at most 0\.01 requests a second of shop") as refused:
            await callers.admit(f"Bearer {token()}")
        assert (refused.value.status, refused.value.headers) == (429, {"retry-after": "100"})  # type: ignore[attr-defined]
        assert await callers.admit(f"Bearer {token(sub='bank')}") == "bank"

    asyncio.run(run())


def test_a_new_key_is_looked_up_and_old_ones_stay(jwks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr("serving.process.callers.SOON_SECONDS", 0.0)
        callers = Callers(Keys(str(jwks)), TERMS)
        assert await callers.admit(f"Bearer {token()}") == "shop"
        jwks.write_text(json.dumps({"keys": [public(KEY, "one"), public(OTHER, "two")]}))
        assert await callers.admit(f"Bearer {token(OTHER, 'two')}") == "shop"
        jwks.unlink()
        with pytest.raises(Exception, match="kid"):
            await callers.admit(f"Bearer {token(OTHER, 'three')}")
        assert await callers.admit(f"Bearer {token(OTHER, 'two')}") == "shop"

    asyncio.run(run())


def test_without_keys_the_service_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"--jwks: expected a JWKS at \S+none.json"):
        asyncio.run(Keys(str(tmp_path / "none.json")).look())
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(ServiceError, match="--jwks: expected a JWKS"):
        asyncio.run(Keys(str(tmp_path / "bad.json")).look())


def test_certificates_of_both_protocols(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    chain, key = authority.certificate()

    async def test(address: Address) -> None:
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=authority.file)) as client:
            answer = await client.get(f"https://localhost:{address.http_port}/v2/health/ready")
            assert answer.json() == {"ready": True}
        trusted = grpc.ssl_channel_credentials(authority.file.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{address.grpc_port}", trusted) as channel:
            assert (await GRPCInferenceServiceStub(channel).ServerReady(messages.ServerReadyRequest())).ready

    served(Door(tls=Tls(chain, key)), test)


def test_callers_need_a_certificate_where_authorities_are_named(tmp_path: Path) -> None:
    authority, others = Authority(tmp_path), Authority(tmp_path, "others")
    chain, key = authority.certificate()
    ours, theirs = authority.certificate("caller"), others.certificate("stranger")

    async def ready(address: Address, certificate: tuple[Path, Path] | tuple[()]) -> bool:
        context = ClientTls(authority.file, *certificate).context()
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            try:
                await client.get(f"https://localhost:{address.http_port}/v2/health/ready")
            except (httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError):
                return False
            return True

    async def live(address: Address, certificate: tuple[Path, Path] | tuple[()]) -> bool:
        config = SecurePredictorConfig(f"localhost:{address.grpc_port}", 5, 0, ClientTls(authority.file, *certificate))
        async with grpc.aio.secure_channel(config.predictor_host, config.credentials()) as channel:
            try:
                await GRPCInferenceServiceStub(channel).ServerLive(messages.ServerLiveRequest(), timeout=5)
            except grpc.aio.AioRpcError as error:
                return error.code() != grpc.StatusCode.UNAVAILABLE
            return True

    async def test(address: Address) -> None:
        for answers in (ready, live):
            assert [await answers(address, certificate) for certificate in (ours, theirs, ())] == [True, False, False]

    served(Door(tls=Tls(chain, key, authority.file)), test)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (chain, _), (_, key) = authority.certificate(), authority.certificate("other")
    for build in (lambda: Tls(chain, key), lambda: ClientTls(authority.file, chain, key)):
        with pytest.raises(ServiceError, match="expected a certificate and its key in PEM form"):
            build()
    with pytest.raises(ServiceError, match="expected certificates in PEM form"):
        ClientTls(key)
    with pytest.raises(ServiceError, match="expected both or none"):
        ClientTls(authority.file, chain)
    with pytest.raises(ServiceError, match="expected --predictor_authorities, too"):
        SecurePredictorConfig("localhost:1", 1, 0, ClientTls(None, *authority.certificate()))
