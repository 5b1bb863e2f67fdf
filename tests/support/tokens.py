"""Tokens of callers, and the keys of their issuer."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = "https://issuer.example"


def public(key: ec.EllipticCurvePrivateKey = KEY, name: str = "one") -> dict[str, Any]:
    """The public part of a key, as a JWKS lists it."""
    described: dict[str, Any] = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return described | {"kid": name, "use": "sig", "alg": "ES256"}


def token(key: Any = KEY, kid: str = "one", algorithm: str = "ES256", **claims: Any) -> str:
    """A token of the caller `shop`, unless claims say otherwise."""
    said = {"sub": "shop", "aud": "offers", "iss": ISSUER, "exp": time.time() + 3600} | claims
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, key, algorithm, headers={"kid": kid})
