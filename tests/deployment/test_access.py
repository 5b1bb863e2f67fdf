"""Reaching store and predictor of a cluster with nothing but a kubeconfig, through a double of its API."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from deployment.access import access, store_access
from deployment.forwarding import forwarded
from offers.errors import ServiceError
from offers.settings import S3Settings, Settings
from offers.store.s3 import S3Store, connect
from tests.support.kubernetes_double import KubernetesDouble
from tests.support.reachable import in_cluster, pod, served
from tests.support.s3_double import S3Double


@pytest.fixture
def double() -> Iterator[KubernetesDouble]:
    with KubernetesDouble(lambda service: None) as double:
        yield double


class Echo(BaseHTTPRequestHandler):
    """Answers with its server's name and the size of what it was sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        answer = f"{self.server.server_address[1]} {len(body)}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


def test_a_connection_goes_to_a_pod_that_is_ready_when_it_begins(
    double: KubernetesDouble, echo: tuple[str, int]
) -> None:
    served(double, "bank", "predictor", 8085, pod("old"), pod("new", ready=False))
    double.forwards["old"] = double.forwards["new"] = echo
    with forwarded(double.api(), "bank", "predictor", 8085) as address:
        body = b"x" * 300_000
        for _ in range(2):
            answer = httpx.post(f"http://{address}", content=body, trust_env=False)
            assert answer.text == f"{echo[1]} {len(body)}"
        served(double, "bank", "predictor", 8085, pod("old", ending=True), pod("new"))
        assert httpx.post(f"http://{address}", content=b"", trust_env=False).text == f"{echo[1]} 0"
        asked = [path for _, path, _ in double.requests if path.endswith("/portforward")]
        assert {path.split("/")[-2] for path in asked[:-1]} == {"old"}
        assert asked[-1].split("/")[-2] == "new"
        assert {query["ports"] for _, path, query in double.requests if path.endswith("/portforward")} == {"18085"}
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"http://{address}", content=b"", trust_env=False)


def test_where_no_pod_is_ready_a_store_is_refused_and_a_predictor_waited_for(
    double: KubernetesDouble, echo: tuple[str, int]
) -> None:
    served(double, "bank", "predictor", 8085, pod("only", ready=False))
    with (
        pytest.raises(ServiceError, match=r"service bank/predictor: none of its 1 pods is ready; 'offers status'"),
        forwarded(double.api(), "bank", "predictor", 8085),
    ):
        pass
    with forwarded(double.api(), "bank", "predictor", 8085, expected=False) as address:
        with pytest.raises(httpx.HTTPError):
            httpx.post(f"http://{address}", content=b"", trust_env=False)
        served(double, "bank", "predictor", 8085, pod("only"))
        double.forwards["only"] = echo
        assert httpx.post(f"http://{address}", content=b"", trust_env=False).status_code == 200


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ("GET /api/v1/namespaces/bank/services/predictor", "can't find service bank/predictor: the account that asks"),
        ("GET /api/v1/namespaces/bank/pods", "can't find service bank/predictor: the account that asks may not"),
        (
            "GET /api/v1/namespaces/bank/pods/only/portforward",
            "can't forward to service bank/predictor: the account that asks may not: it needs to get services, list",
        ),
    ],
)
def test_an_account_that_may_not(double: KubernetesDouble, request_: str, sentence: str) -> None:
    served(double, "bank", "predictor", 8085, pod("only"))
    double.refuse[request_] = 403
    with pytest.raises(ServiceError, match=sentence), forwarded(double.api(), "bank", "predictor", 8085):
        pass


def test_the_store_is_reached_by_what_the_namespace_says(double: KubernetesDouble, s3: S3Double) -> None:
    in_cluster(double, s3)
    with store_access(double.api, "bank", Settings()) as settings:
        assert settings.s3.access_key == "me"
        assert settings.s3.secret_key.get_secret_value() == "mine"
        assert (settings.s3.region, settings.s3.secure) == ("us-east-1", False)
        S3Store(connect(settings.s3), "bank", "").write_bytes("a", b"through the API")
    assert s3.buckets["bank"]["a"] == b"through the API"


def test_what_the_environment_says_comes_first(double: KubernetesDouble) -> None:
    def never() -> Any:
        raise AssertionError

    settings = Settings(s3=S3Settings(endpoint="store:9000"))
    with access(never, "bank", settings, "http://predictor:8085") as reached:
        assert (reached.settings, reached.predictor) == (settings, "http://predictor:8085")


def test_a_store_outside_the_cluster_is_asked_itself(double: KubernetesDouble) -> None:
    place = "/api/v1/namespaces/bank/configmaps/offers-settings"
    double.others[place] = {"data": {"OFFERS_S3_ENDPOINT": "https://s3.eu-central-1.amazonaws.com"}}
    settings = Settings(s3=S3Settings(access_key="me"))
    with store_access(double.api, "bank", settings) as reached:
        assert (reached.s3.endpoint, reached.s3.secure) == ("s3.eu-central-1.amazonaws.com", True)
    assert [path for _, path, _ in double.requests] == [place]


def test_keys_that_may_not_be_read_are_asked_for(double: KubernetesDouble, s3: S3Double) -> None:
    in_cluster(double, s3)
    double.refuse["GET /api/v1/namespaces/bank/secrets/object-store"] = 403
    with (
        pytest.raises(
            ServiceError,
            match=r"can't read Secret bank/object-store: the account that asks may not read it; set AWS_ACCESS_KEY_ID",
        ),
        store_access(double.api, "bank", Settings()),
    ):
        pass


def test_a_namespace_without_the_platform(double: KubernetesDouble, tmp_path: Path) -> None:
    with (
        pytest.raises(ServiceError, match=r"ConfigMap bank/offers-settings: there is none of that name; set OFFERS_S3"),
        store_access(double.api, "bank", Settings()),
    ):
        pass


class Torn(BaseHTTPRequestHandler):
    """Ends in the middle of an answer, as a pod that is killed."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b"half")
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


def test_a_pod_that_goes_away_in_mid_answer_is_a_connection_that_ends(
    double: KubernetesDouble, capfd: pytest.CaptureFixture[str]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Torn) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served(double, "bank", "predictor", 8085, pod("only"))
        double.forwards["only"] = "127.0.0.1", server.server_port
        with (
            forwarded(double.api(), "bank", "predictor", 8085) as address,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            httpx.get(f"http://{address}", trust_env=False)
        server.shutdown()
        thread.join()
    assert "Traceback" not in capfd.readouterr().err
