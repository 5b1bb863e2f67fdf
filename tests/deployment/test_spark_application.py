"""SparkApplications, against a small stand-in for the API server with Kubeflow's Spark operator behind it."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes import client

from deployment.spark_application import GROUP, PLURAL, VERSION, SparkApplication
from deployment.spark_scoring import application, template
from offers.errors import ServiceError
from tests.support import loopback
from tests.support.loopback import Loopback

Object = dict[str, Any]
PLACE = f"/apis/{GROUP}/{VERSION}/namespaces/bank/{PLURAL}"
TEMPLATE = f"apiVersion: {GROUP}/{VERSION}\nkind: SparkApplication\nmetadata: {{}}\nspec: {{type: Python}}\n"
LOG = "INFO ok\noffers: stopped: column 'age', row 7: expected a number, got 'x'\nINFO end\n"


class Operator(Loopback):
    """Takes SparkApplications; each look at one gives it the next of `states`, the last for ever.

    `refuse` maps "METHOD path" to a status that is answered; `made` counts creations.
    """

    def __init__(self, states: list[Object]) -> None:
        self.states, self.refuse = states, dict[str, int]()
        self.objects: dict[str, Object] = {}
        self.made = 0
        super().__init__(_Handler.of(self))

    def api(self) -> client.ApiClient:
        configuration = client.Configuration()
        configuration.host = self.url
        configuration.retries = False
        return client.ApiClient(configuration)


class _Handler(loopback.Handler):
    double: Operator

    def _do(self) -> None:
        path = urlsplit(self.path).path
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        operator, name = self.double, path.rpartition("/")[2]
        if status := operator.refuse.get(f"{self.command} {path}"):
            self._answer(status, {"message": f"status {status} from admission"})
        elif path.endswith("/log"):
            self.send(200, "text/plain", LOG.encode())
        elif path.startswith("/api/v1/namespaces/bank/configmaps/"):
            self._answer(200, {"data": {"application.yaml": TEMPLATE}})
        elif self.command == "POST":
            name = body["metadata"]["name"]
            if name in operator.objects:
                self._answer(409, {"message": f"{name} already exists"})
            else:
                operator.made += 1
                operator.objects[name] = body
                self._answer(201, body)
        elif name not in operator.objects:
            self._answer(404, {"message": f"{name} not found"})
        elif self.command == "DELETE":
            self._answer(200, operator.objects.pop(name))
        else:
            state = operator.states.pop(0) if len(operator.states) > 1 else operator.states[0]
            self._answer(200, operator.objects[name] | ({"status": state} if state else {}))

    def _answer(self, status: int, content: Object) -> None:
        self.send_json(status, content)

    do_GET = do_POST = do_DELETE = _do


def status(state: str, message: str = "") -> Object:
    return {
        "applicationState": {"state": state, "errorMessage": message},
        "driverInfo": {"podName": "offers-score-driver"},
    }


def spark(operator: Operator, patience: float = 60) -> SparkApplication:
    return SparkApplication(operator.api(), application(TEMPLATE, "bank", "image:1", "{}"), 0.01, patience)


def test_an_application_is_created_and_waited_for() -> None:
    said: list[str] = []
    states = [{}, status("SUBMITTED"), status("RUNNING"), status("RUNNING"), status("COMPLETED")]
    with Operator(states) as operator:
        one = spark(operator)
        one.run(60, said.append)
        (body,) = operator.objects.values()
    assert body["spec"] == {"type": "Python", "image": "image:1", "arguments": ["{}"]}
    assert said == [f"{one}{end}" for end in (" is created", ": SUBMITTED", ": RUNNING", ": COMPLETED")]


def test_a_step_that_is_repeated_starts_nothing_twice_and_a_failed_one_is_made_anew() -> None:
    with Operator([status("RUNNING"), status("COMPLETED")]) as operator:
        spark(operator).run(60, print)
        spark(operator).run(60, print)
        assert operator.made == 1
        operator.states = [status("FAILED", "driver container failed"), status("RUNNING"), status("COMPLETED")]
        spark(operator).run(60, print)
        assert operator.made == 2


@pytest.mark.parametrize(
    ("states", "sentence"),
    [
        ([status("FAILED", "driver pod exited 1")], r"failed: column 'age', row 7: expected a number, got 'x'"),
        ([{"applicationState": {"state": "FAILED", "errorMessage": "driver pod not found"}}], "driver pod not found"),
        ([{}], "the Spark operator says nothing of it .* whether it watches namespace bank"),
        ([status("UNKNOWN")], "the Spark operator says nothing of it"),
    ],
)
def test_a_failure_is_one_sentence(states: list[Object], sentence: str) -> None:
    with Operator(states) as operator, pytest.raises(ServiceError, match=sentence):
        spark(operator, patience=0.05).run(60, lambda _: None)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (404, "Kubeflow's Spark operator is not installed"),
        (403, "the Role spark-scoring grants it"),
        (422, "refuses it .*status 422 from admission"),
    ],
)
def test_an_absent_operator_and_a_refusal_are_told_apart(code: int, sentence: str) -> None:
    with Operator([{}]) as operator:
        operator.refuse[f"POST {PLACE}"] = code
        with pytest.raises(ServiceError, match=sentence):
            spark(operator).run(60, print)


def test_what_takes_too_long_is_stopped() -> None:
    with Operator([status("RUNNING")]) as operator:
        with pytest.raises(ServiceError, match="was stopped, because it was RUNNING after 0 seconds"):
            spark(operator).run(0.1, print)
        assert operator.objects == {}


def test_one_that_is_deleted_and_a_cluster_that_goes_away() -> None:
    with Operator([status("RUNNING")]) as operator:
        deletes: Callable[[str], None] = lambda _: operator.objects.clear()  # noqa: E731
        with pytest.raises(ServiceError, match="was deleted while it was waited for"):
            spark(operator).run(60, deletes)
        one = spark(operator, patience=0.05)
        operator.refuse[f"GET {PLACE}/{one.name}"] = 503
        with pytest.raises(ServiceError, match="the cluster answers 503"):
            one.run(60, print)


def test_the_template_comes_from_the_namespace() -> None:
    with Operator([{}]) as operator:
        assert template(operator.api(), "bank") == TEMPLATE
        operator.refuse["GET /api/v1/namespaces/bank/configmaps/spark-scoring"] = 404
        with pytest.raises(ServiceError, match=r"ConfigMap bank/spark-scoring: .* manifests/spark makes"):
            template(operator.api(), "bank")
