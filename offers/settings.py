"""Settings of a process: one frozen tree, read from the environment at entry points and passed in."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from offers.errors import OffersError
from offers.record import Record


class S3Settings(Record):
    """How to reach the object store; `secure` means https.

    Without keys, `sts` gives those of the role `role_arn` in exchange for the token in `token_file`. An empty `sts` is
    the region's own.
    """

    endpoint: str = ""
    access_key: str = ""
    secret_key: SecretStr = SecretStr("")
    session_token: SecretStr = SecretStr("")
    role_arn: str = ""
    token_file: Path | None = None
    sts: str = ""
    region: str = ""
    secure: bool = True


class LineageSettings(Record):
    """The destination of OpenLineage events: the server at `url`, else a file in `Settings.home`; none if `off`."""

    url: str = ""
    key: SecretStr = SecretStr("")
    namespace: str = "offers"
    off: bool = False


class PagesSettings(Record):
    """What the pages of `offers app` show where the services run on other machines.

    `ranker` and `drift` are URLs; `tables` is the place of the decision log. `person_header` is the header in which the
    sign-on in front of the pages names who asks; it is empty where there is none. `token_file` holds the token that the
    ranker asks for, where it asks its callers for one.
    """

    ranker: str = ""
    drift: str = ""
    tables: str = ""
    person_header: str = ""
    token_file: Path | None = None


class Settings(Record):
    """Locations and other settings of a process.

    `home` holds downloads, runs and bundles, and `data_dir` files that a user has already. `kubeflow` is the address of
    Kubeflow Pipelines. `ledger` is the store of ledger and releases; if empty, it is `home`. `key` is the file of the
    private key that signs; if None, it is one in `home`. `account` is what a cluster, or the sign-on in front of the
    pages, calls the caller; entries of the ledger then name it. `tracking` is the URI of MLflow; if empty, it is a file
    in `home`, and `off` means no MLflow. `tracking_run` is the MLflow run that Kubeflow began. If there are `signers`,
    files of public keys, a bundle is opened only if one of them has signed it. `patience` is the number of seconds for
    which a pipeline's step waits for a store or service that can't be reached.
    """

    home: Path = Path(".offers")
    data_dir: Path | None = None
    kubeflow: str = "http://127.0.0.1:8888"
    ledger: str = ""
    key: Path | None = None
    account: str = ""
    tracking: str = ""
    tracking_run: str = ""
    signers: tuple[Path, ...] = ()
    patience: float = 0.0
    s3: S3Settings = S3Settings()
    lineage: LineageSettings = LineageSettings()
    pages: PagesSettings = PagesSettings()

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read OFFERS_HOME, _DATA_DIR, _KUBEFLOW_URL, _LEDGER, _KEY, _ACCOUNT, _MLFLOW, _SIGNERS, _PATIENCE.

        The object store is at the URL OFFERS_S3_ENDPOINT. OFFERS_RANKER_URL, _DRIFT_URL, _TABLES and _PERSON_HEADER are
        the pages'. Variables of other tools that are read, too: AWS_*, MLFLOW_TRACKING_URI, MLFLOW_RUN_ID,
        OPENLINEAGE_URL, _API_KEY, _NAMESPACE and _DISABLED.
        """
        endpoint, token = env.get("OFFERS_S3_ENDPOINT", ""), env.get("AWS_WEB_IDENTITY_TOKEN_FILE", "")
        return cls(
            home=Path(env.get("OFFERS_HOME", ".offers")),
            data_dir=Path(env["OFFERS_DATA_DIR"]) if env.get("OFFERS_DATA_DIR") else None,
            kubeflow=env.get("OFFERS_KUBEFLOW_URL") or env.get("KF_PIPELINES_ENDPOINT") or "http://127.0.0.1:8888",
            ledger=env.get("OFFERS_LEDGER", ""),
            key=Path(env["OFFERS_KEY"]) if env.get("OFFERS_KEY") else None,
            account=env.get("OFFERS_ACCOUNT", ""),
            tracking="off" if env.get("OFFERS_MLFLOW") == "off" else env.get("MLFLOW_TRACKING_URI", ""),
            tracking_run=env.get("MLFLOW_RUN_ID", ""),
            signers=tuple(map(Path, filter(None, env.get("OFFERS_SIGNERS", "").split(os.pathsep)))),
            patience=_seconds(env, "OFFERS_PATIENCE"),
            lineage=LineageSettings(
                url=env.get("OPENLINEAGE_URL", ""),
                key=SecretStr(env.get("OPENLINEAGE_API_KEY", "")),
                namespace=env.get("OPENLINEAGE_NAMESPACE") or "offers",
                off=env.get("OPENLINEAGE_DISABLED", "").lower() in ("true", "1"),
            ),
            pages=PagesSettings(
                ranker=env.get("OFFERS_RANKER_URL", "").rstrip("/"),
                drift=env.get("OFFERS_DRIFT_URL", "").rstrip("/"),
                tables=env.get("OFFERS_TABLES", ""),
                person_header=env.get("OFFERS_PERSON_HEADER", ""),
                token_file=Path(env["OFFERS_RANKER_TOKEN_FILE"]) if env.get("OFFERS_RANKER_TOKEN_FILE") else None,
            ),
            s3=S3Settings(
                endpoint=endpoint.removeprefix("https://").removeprefix("http://").rstrip("/"),
                access_key=env.get("AWS_ACCESS_KEY_ID", ""),
                secret_key=SecretStr(env.get("AWS_SECRET_ACCESS_KEY", "")),
                session_token=SecretStr(env.get("AWS_SESSION_TOKEN", "")),
                role_arn=env.get("AWS_ROLE_ARN", ""),
                token_file=Path(token) if token else None,
                sts=env.get("AWS_ENDPOINT_URL_STS", ""),
                region=env.get("AWS_REGION", ""),
                secure=not endpoint.startswith("http://"),
            ),
        )


def _seconds(env: Mapping[str, str], name: str) -> float:
    """Read a number of seconds; 0 where there is none."""
    text = env.get(name) or "0"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise OffersError(f"{name}: expected seconds, 0 or more, got {text!r}")
    return seconds
