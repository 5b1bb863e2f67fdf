"""Requests to other services, with one deadline for everything, small answers, no redirects and no proxy."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx

from offers.errors import ServiceError

ANSWER_BYTES = 1 << 20
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class ClientTls:
    """Certificates for requests to another service, as PEM files.

    Attributes
    ----------
    authorities : the authorities to trust; by default the system's
    certificate, key : the chain that we show, and its private key; both or none

    Raises
    ------
    ServiceError
        a file can't be read, or is not what it should be
    """

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ServiceError("a client's certificate and key belong together: expected both or none")
        if self.authorities or self.certificate:
            self.context()

    def context(self) -> ssl.SSLContext:
        """Load the files."""
        try:
            context = ssl.create_default_context(cafile=self.authorities)
        except (OSError, ssl.SSLError) as error:
            raise ServiceError(f"{self.authorities}: expected certificates in PEM form ({error})") from None
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except (OSError, ssl.SSLError) as error:
                files = f"{self.certificate}, {self.key}"
                raise ServiceError(f"{files}: expected a certificate and its key in PEM form ({error})") from None
        return context


SYSTEM_TLS = ClientTls()


@dataclass(frozen=True)
class Peer:
    """Another service.

    Attributes
    ----------
    url : address that takes requests
    seconds : deadline for a request and its whole answer
    tls : whom to trust, and what to show
    answer_bytes : limit of an answer's size
    """

    url: httpx.URL
    seconds: float
    tls: ClientTls = SYSTEM_TLS
    answer_bytes: int = ANSWER_BYTES

    def client(self, proxies: bool = False) -> httpx.AsyncClient:
        """Build a client, which keeps connections open until it is closed; `proxies` are those of the environment."""
        # Without TLS there is nothing to verify, and loading the system's authorities takes 20 ms.
        verify = self.url.scheme == "https" and self.tls.context()
        headers = {"accept-encoding": "identity"}
        return httpx.AsyncClient(
            verify=verify, headers=headers, timeout=self.seconds, trust_env=proxies, follow_redirects=False
        )

    def ask(self, content: bytes | None = None, headers: Mapping[str, str] = NO_HEADERS) -> httpx.Response:
        """Get the content at the address, or post a body, by a connection of its own, from a thread without event loop.

        Raises what `client` and `get` do.
        """
        return asyncio.run(self._ask_once(content, headers))

    async def post(self, client: httpx.AsyncClient, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send a body, and read the answer whole; raises as `get` does."""
        return await self._ask(client, "POST", content, headers)

    async def get(self, client: httpx.AsyncClient, headers: Mapping[str, str] = NO_HEADERS) -> httpx.Response:
        """Get the content at the address.

        Raises
        ------
        httpx.HTTPError
            there is no answer by the deadline, it is not HTTP, or it has more than `answer_bytes`
        """
        return await self._ask(client, "GET", None, headers)

    async def _ask_once(self, content: bytes | None, headers: Mapping[str, str]) -> httpx.Response:
        async with self.client() as client:
            return await self._ask(client, "GET" if content is None else "POST", content, headers)

    async def _ask(
        self, client: httpx.AsyncClient, method: str, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        try:
            async with (
                asyncio.timeout(self.seconds),
                client.stream(method, self.url, content=content, headers=dict(headers)) as answer,
            ):
                body = b""
                async for part in answer.aiter_raw():
                    body += part
                    if len(body) > self.answer_bytes:
                        raise httpx.DecodingError(f"its answer has more than {self.answer_bytes} bytes")
                return httpx.Response(answer.status_code, headers=answer.headers, content=body, request=answer.request)
        except TimeoutError:
            raise httpx.ReadTimeout(f"no whole answer within {self.seconds:g} s") from None


def peer(name: str, url: str, seconds: float, tls: ClientTls = SYSTEM_TLS, answer_bytes: int = ANSWER_BYTES) -> Peer:
    """Check an address that was given as `name`; the other parameters are those of `Peer`.

    Raises
    ------
    ServiceError
        it is not an HTTP address, or contains a password, which logs would reveal
    """
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        target = httpx.URL("")
    if target.scheme not in ("http", "https") or not target.host or target.userinfo:
        address = url.rpartition("@")[2][:80]
        raise ServiceError(f"{name}: expected http://host:port/path, without a password, got {address!r}")
    return Peer(target, seconds, tls, answer_bytes)
