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
class Peer:
    """Another service.

    Attributes
    ----------
    url : address that takes requests
    seconds : deadline for a request and its whole answer
    authorities : PEM file of the certificate authorities to trust; by default the system's
    """

    url: httpx.URL
    seconds: float
    authorities: Path | None = None

    def client(self) -> httpx.AsyncClient:
        """Build a client, which keeps connections open until it is closed.

        Raises
        ------
        ServiceError
            the file of certificate authorities can't be read
        """
        verify: ssl.SSLContext | bool = True
        if self.authorities is not None:
            try:
                verify = ssl.create_default_context(cafile=self.authorities)
            except (OSError, ssl.SSLError) as error:
                raise ServiceError(f"{self.authorities}: expected certificates in PEM form ({error})") from None
        headers = {"accept-encoding": "identity"}
        return httpx.AsyncClient(
            verify=verify, headers=headers, timeout=self.seconds, trust_env=False, follow_redirects=False
        )

    async def post(self, client: httpx.AsyncClient, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send a body, and read the answer whole; raises as `get` does."""
        return await self._ask(client, "POST", content, headers)

    async def get(self, client: httpx.AsyncClient, headers: Mapping[str, str] = NO_HEADERS) -> httpx.Response:
        """Get the content at the address.

        Raises
        ------
        httpx.HTTPError
            there is no answer by the deadline, it is not HTTP, or it has more than `ANSWER_BYTES`
        """
        return await self._ask(client, "GET", None, headers)

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
                    if len(body) > ANSWER_BYTES:
                        raise httpx.DecodingError(f"its answer has more than {ANSWER_BYTES} bytes")
                return httpx.Response(answer.status_code, headers=answer.headers, content=body, request=answer.request)
        except TimeoutError:
            raise httpx.ReadTimeout(f"no whole answer within {self.seconds:g} s") from None


def peer(name: str, url: str, seconds: float, authorities: Path | None = None) -> Peer:
    """Check an address that was given as `name`.

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
    return Peer(target, seconds, authorities)
