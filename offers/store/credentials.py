"""Credentials for the object store: fixed keys, or a role's keys in exchange for a service account's token."""

from http import HTTPStatus
from typing import Any
from xml.etree.ElementTree import ParseError, fromstring

from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider, StaticProvider, WebIdentityProvider
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from offers.errors import StorageError
from offers.http_pool import Pool
from offers.settings import S3Settings


def credentials(settings: S3Settings) -> Provider | None:
    """Provide the settings' keys, or those of their role; None where there is neither."""
    key, secret = settings.access_key, settings.secret_key.get_secret_value()
    if key and secret:
        return StaticProvider(key, secret, settings.session_token.get_secret_value() or None)
    return _AssumedRole(settings) if key or secret or settings.role_arn or settings.token_file else None


class _AssumedRole(WebIdentityProvider):
    """Keys of a role in exchange for a service account's token, renewed shortly before they expire."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        sts = _sts(settings)
        super().__init__(
            jwt_provider_func=self._token,
            sts_endpoint=sts,
            role_arn=settings.role_arn,
            role_session_name="offers",
            http_client=_Sts(not sts.startswith("http://")),
        )

    def retrieve(self) -> Credentials:
        try:
            return super().retrieve()
        except (ParseError, ValueError) as error:
            raise StorageError(
                f"{_sts(self._settings)}: expected the keys of role {self._settings.role_arn} ({error}); "
                "check AWS_REGION and AWS_ENDPOINT_URL_STS"
            ) from None

    def _token(self) -> dict[str, str]:
        file = self._settings.token_file
        if file is None or not self._settings.role_arn:
            raise _no_credentials(self._settings)
        try:
            return {"access_token": file.read_text("utf-8").strip()}
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{file}: expected the token of the service account ({error}); check AWS_WEB_IDENTITY_TOKEN_FILE"
            ) from None


class _Sts(Pool):
    """Moves the minio client's query from the address to the body: the token is a secret, and addresses are logged."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> BaseHTTPResponse:  # type: ignore[override]
        where, _, question = url.partition("?")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            answer = super().urlopen(method, where, redirect=False, body=question, headers=form)
        except HTTPError as error:
            remedy = "check AWS_REGION, AWS_ENDPOINT_URL_STS and the way to it"
            raise StorageError(f"{where}: no answer ({cause(error)}); {remedy}", passes=True) from None
        if answer.status != HTTPStatus.OK:
            remedy = "check AWS_ROLE_ARN, and whom that role trusts"
            raise StorageError(f"{where}: the role is refused: {_refusal(answer)}; {remedy}")
        return answer


def cause(error: HTTPError) -> str:
    """Explain why no answer came."""
    return str(getattr(error, "reason", error)).rpartition(": ")[2]


def _sts(settings: S3Settings) -> str:
    if settings.sts or not settings.region:
        return settings.sts or "https://sts.amazonaws.com"
    return f"https://sts.{settings.region}.amazonaws.com{'.cn' if settings.region.startswith('cn-') else ''}"


def _refusal(answer: BaseHTTPResponse) -> str:
    try:
        error = fromstring(answer.data)
    except ParseError:
        return f"it answers {answer.status}"
    return f"{error.findtext('{*}Error/{*}Code')}: {error.findtext('{*}Error/{*}Message')}"


def _no_credentials(settings: S3Settings) -> StorageError:
    by_variable = {
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret_key.get_secret_value(),
        "AWS_ROLE_ARN": settings.role_arn,
        "AWS_WEB_IDENTITY_TOKEN_FILE": settings.token_file,
    }
    key, secret, role, token = by_variable
    present = " and ".join(name for name, value in by_variable.items() if value)
    return StorageError(
        f"credentials of the object store: expected {key} and {secret}, or {role} and {token}, which EKS sets for "
        f"an annotated service account; got only {present}"
    )
