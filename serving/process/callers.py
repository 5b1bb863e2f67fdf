"""Who calls: bearer tokens, checked by the keys of their issuer, and how many requests each caller may send."""

import asyncio
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import jwt

from offers.errors import ServiceError
from offers.http_client import SYSTEM_TLS, ClientTls, Peer, peer
from serving.process.edge import Refused

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures by a private key alone: the issuer's public keys must not be able to sign."""
FRESH_SECONDS, SOON_SECONDS = 300.0, 10.0
"""How long keys are used before they are looked up again, and how soon after a key that is not among them."""
_KEYS_SECONDS = 5.0
_MOST_CALLERS = 10_000


class Keys:
    """The issuer's public keys, a JWKS in a file or at an address."""

    def __init__(self, where: str, tls: ClientTls = SYSTEM_TLS) -> None:
        self.where = where
        self._peer: Peer | None = None
        if where.startswith(("http://", "https://")):
            self._peer = peer("--jwks", where, _KEYS_SECONDS, tls)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._looked = -math.inf
        self._looking = asyncio.Lock()

    async def key(self, name: str) -> jwt.PyJWK | None:
        """The key of a name, None where the issuer has none; those that are there stay in use while it is away."""
        age = FRESH_SECONDS if name in self._keys else SOON_SECONDS
        if time.monotonic() - self._looked > age:
            async with self._looking:
                if time.monotonic() - self._looked > age:
                    await self.look()
        return self._keys.get(name)

    async def look(self) -> None:
        """Read the keys.

        Raises
        ------
        ServiceError
            there are none yet, and none can be had
        """
        self._looked = time.monotonic()
        try:
            content = await self._content()
            keys = jwt.PyJWKSet.from_dict(json.loads(content)).keys
            self._keys = {key.key_id: key for key in keys if key.key_id}
        except (OSError, ValueError, httpx.HTTPError, jwt.PyJWTError, AttributeError, TypeError) as error:
            if not self._keys:
                raise ServiceError(
                    f"--jwks: expected a JWKS at {self.where} ({error or type(error).__name__})"
                ) from None

    async def _content(self) -> bytes:
        if self._peer is None:
            return await asyncio.to_thread(Path(self.where).read_bytes)
        async with self._peer.client() as client:
            answer = await self._peer.get(client)
            return answer.raise_for_status().content


@dataclass(frozen=True)
class Terms:
    """What a token has to say, and what its caller may do.

    Attributes
    ----------
    audience, issuer : of the token; an empty issuer is not compared
    claim : names the caller
    quota : requests a second for each caller; 0 for any number
    """

    audience: str
    issuer: str = ""
    claim: str = "sub"
    quota: float = 0.0


class Callers:
    """Lets callers in by their tokens, and no more often than their quota."""

    def __init__(self, keys: Keys, terms: Terms) -> None:
        self.keys, self.terms = keys, terms
        self._buckets: dict[str, tuple[float, float]] = {}

    async def admit(self, authorization: str) -> str:
        """Name the caller of a request by its `Authorization` header.

        Raises
        ------
        Refused
            401: no token, or not one of ours; 429: more than the quota; 503: the issuer's keys can't be had
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._unknown("expected header authorization: Bearer TOKEN")
        try:
            head = jwt.get_unverified_header(token)
            key = await self.keys.key(str(head.get("kid", "")))
            if key is None:
                raise self._unknown("expected a token signed by a key of the issuer's JWKS, got another 'kid'")
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self.terms.audience,
                issuer=self.terms.issuer or None,
                leeway=30,
                options={"require": ["exp", self.terms.claim]},
            )
        except jwt.PyJWTError as error:
            raise self._unknown(f"expected a valid token: {error}") from None
        except ServiceError as error:
            raise Refused(503, str(error), {"retry-after": "5"}) from None
        caller = str(claims[self.terms.claim])[:100]
        self._take(caller)
        return caller

    def _take(self, caller: str) -> None:
        """Take one request from the caller's bucket, which holds as many as a second brings."""
        quota, now = self.terms.quota, time.monotonic()
        if not quota:
            return
        most = max(1.0, quota)
        tokens, since = self._buckets.pop(caller, (most, now))
        tokens = min(most, tokens + (now - since) * quota)
        if len(self._buckets) >= _MOST_CALLERS:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[caller] = (max(0.0, tokens - 1) if tokens >= 1 else tokens, now)
        if tokens < 1:
            wait = math.ceil((1 - tokens) / quota)
            raise Refused(429, f"expected at most {quota:g} requests a second of {caller}", {"retry-after": str(wait)})

    def _unknown(self, sentence: str) -> Refused:
        return Refused(401, sentence, {"www-authenticate": "Bearer"})
