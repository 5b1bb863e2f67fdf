"""The page that shows a service's OpenAPI document to a person, and sends requests from it."""

import base64
import hashlib
import re
from importlib.resources import files

PAGE = files("serving").joinpath("docs.html").read_text("utf-8")


def _hashes(tag: str) -> str:
    """What allows the page's own inline `tag`, and none that anybody may have smuggled in."""
    texts = re.findall(f"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


_POLICY = {
    "default-src": "'none'",
    "connect-src": "'self'",
    "script-src": _hashes("script"),
    "style-src": _hashes("style"),
    "img-src": "data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "content-security-policy": "; ".join(f"{source} {allowed}" for source, allowed in _POLICY.items()),
    "referrer-policy": "no-referrer",
}
