"""Moving a service on a cluster to another release, and back, through the official client and a double of the API."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from deployment import inference_service, rollout
from deployment.deploy import roll_out
from deployment.inference_service import InferenceService
from deployment.rollout import RolloutTarget
from offers.errors import BundleError, ServiceError
from tests.support.kubernetes_double import SERVICES, KubernetesDouble

OLD, NEW = "s3://bank/releases/shop-release-0000000000000001", "s3://bank/releases/shop-release-0000000000000002"


AHEAD = -2
"""KServe tells the generation of its Deployment, which has changed less often, or more, than the service has."""


def become(service: dict[str, Any], ready: bool, message: str = "", ahead: int = AHEAD) -> None:
    service["status"] = {
        "observedGeneration": service["metadata"]["generation"] + ahead,
        "conditions": [{"type": "Ready", "status": str(ready), "message": message}],
        "modelStatus": {"transitionStatus": "UpToDate" if ready else "InProgress"},
    }


def fail(service: dict[str, Any], message: str, ahead: int = AHEAD) -> None:
    become(service, False, message, ahead)
    service["status"]["modelStatus"] = {
        "transitionStatus": "BlockedByFailedLoad",
        "lastFailureInfo": {"reason": "ModelLoadFailed", "message": message},
    }


def refuse(service: dict[str, Any], message: str) -> None:
    """A quota leaves the pod of before as the newest, of which KServe goes on to tell."""
    fail(service, "crashed without a bundle")
    service["status"]["conditions"] = [
        {"type": kind, "status": "False", "reason": "FailedCreate", "message": message}
        for kind in ("PredictorReady", "Ready")
    ]


def at_once(service: dict[str, Any]) -> None:
    become(service, True)


def never(service: dict[str, Any]) -> None:
    become(service, rollout.present(service).uri != NEW, "0 of 2 pods are up")


@pytest.fixture
def double() -> Iterator[KubernetesDouble]:
    with KubernetesDouble(at_once) as found:
        found.add("offers", {"predictor": {"minReplicas": 2, "model": {"runtime": "offers-bundle", "storageUri": OLD}}})
        yield found


@pytest.fixture
def service(double: KubernetesDouble) -> InferenceService:
    return InferenceService(double.api(), "bank", "offers")


def served(double: KubernetesDouble) -> str:
    return rollout.present(double.services["offers"]).uri


def fine(uri: str) -> None: ...


def wrong(uri: str) -> None:
    if uri == NEW:
        raise ServiceError("golden row 3 scores 0.5, expected 0.1")


def move(
    service: InferenceService, smoke: Any = fine, seconds: int = 5, patience: float = rollout.PATIENCE
) -> list[str]:
    said: list[str] = []
    roll_out(service, RolloutTarget(NEW), smoke, seconds, said.append, patience)
    return said


@pytest.fixture
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again each second, the shortest that a watch can last."""
    monkeypatch.setattr(inference_service, "LOOK", 1)


def test_a_service_moves_to_a_bundle_and_keeps_what_is_not_ours(
    double: KubernetesDouble, service: InferenceService
) -> None:
    asked: list[str] = []
    said = move(service, asked.append)
    assert served(double) == NEW
    assert asked == [NEW]
    assert said[-1] == f"InferenceService bank/offers serves {NEW}"
    found = double.services["offers"]
    assert found["spec"]["predictor"]["minReplicas"] == 2
    assert found["spec"]["predictor"]["model"]["runtime"] == "offers-bundle"
    assert found["metadata"]["annotations"]["owner"] == "team"
    (managed,) = found["metadata"]["managedFields"]
    assert (managed["manager"], managed["operation"]) == ("offers-rollout", "Apply")
    assert managed["fieldsV1"] == {
        "f:metadata": {"f:annotations": {}},
        "f:spec": {"f:predictor": {"f:model": {"f:storageUri": {}}}},
    }


def test_the_end_of_the_ledger_stands_beside_the_bundle(double: KubernetesDouble, service: InferenceService) -> None:
    head = f"41:{'a' * 64}"
    roll_out(service, RolloutTarget(NEW, head), fine, 5)
    found = double.services["offers"]
    assert found["metadata"]["annotations"][rollout.HEAD] == head
    assert rollout.present(found) == RolloutTarget(NEW, head)


def test_definitions_that_would_drop_the_rest_of_the_spec_change_nothing(
    double: KubernetesDouble, service: InferenceService
) -> None:
    double.minimal = True
    before = json.dumps(double.services["offers"])
    with pytest.raises(ServiceError, match=r"would drop the fields that are not named; install the full ones"):
        move(service)
    assert json.dumps(double.services["offers"]) == before


def test_a_wrong_answer_returns_to_the_bundle_before(double: KubernetesDouble, service: InferenceService) -> None:
    with pytest.raises(ServiceError, match=f"golden row 3 .*; InferenceService bank/offers has returned to {OLD}"):
        move(service, wrong)
    assert served(double) == OLD


def test_a_return_is_asked_for_its_golden_rows_too(double: KubernetesDouble, service: InferenceService) -> None:
    asked: list[str] = []

    def smoke(uri: str) -> None:
        asked.append(uri)
        raise BundleError(f"{uri}: golden.json is missing") if uri == OLD else ServiceError("golden row 3 scores 0.5")

    with pytest.raises(
        ServiceError,
        match=f"row 3 scores 0.5; .* says that it has returned to {OLD}, but its answers don't show it: {OLD}: golden",
    ):
        move(service, smoke)
    assert asked == [NEW, OLD]
    assert served(double) == OLD


def test_a_bundle_that_never_gets_ready_returns_too(double: KubernetesDouble, service: InferenceService) -> None:
    double.controller = never
    with pytest.raises(ServiceError, match=f"not ready after 1 seconds: 0 of 2 pods are up; .* returned to {OLD}"):
        move(service, seconds=1)
    assert served(double) == OLD


@pytest.mark.usefixtures("looking_often")
def test_a_bundle_that_does_not_exist_returns_early(double: KubernetesDouble, service: InferenceService) -> None:
    double.controller = lambda found: become(found, rollout.present(found).uri != NEW, "storage-initializer runs")
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, service, seconds=60, patience=0.2)
        with double.changed:
            assert double.changed.wait_for(lambda: double.told == 1, 10)
        double.change("offers", lambda found: fail(found, f"no objects under {NEW}"))
        with pytest.raises(
            ServiceError, match=f"can't take up its release: no objects under {NEW}; .* returned to {OLD}"
        ):
            moving.result(20)


@pytest.mark.usefixtures("looking_often")
def test_a_failure_that_passes_is_waited_out(double: KubernetesDouble, service: InferenceService) -> None:
    double.controller = lambda found: become(found, False, "storage-initializer runs")
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, service, seconds=60)
        with double.changed:
            assert double.changed.wait_for(lambda: double.told == 1, 10)
        double.change("offers", lambda found: fail(found, "object store away"))
        with double.changed:
            assert double.changed.wait_for(lambda: double.told == 4, 10)
        assert not moving.done()
        double.change("offers", at_once)
        assert moving.result(20)[-1] == f"InferenceService bank/offers serves {NEW}"


def test_pods_that_are_refused_are_told_and_not_the_last_words_of_one_before(
    double: KubernetesDouble, service: InferenceService
) -> None:
    double.controller = lambda found: become(found, rollout.present(found).uri != NEW, "0 of 2 pods are up")
    message = 'pods "offers-predictor-7d" is forbidden: exceeded quota: namespace'
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, service, seconds=2, patience=0)
        with double.changed:
            assert double.changed.wait_for(lambda: double.told == 1, 10)
        double.change("offers", lambda found: refuse(found, message))
        with pytest.raises(ServiceError, match=f"not ready after 2 seconds: {message}; .* returned to {OLD}"):
            moving.result(20)


BECOMES: dict[str, Callable[[dict[str, Any]], None]] = {
    "wait": lambda found: become(found, False, "pulling the image"),
    "fail": lambda found: fail(found, "no objects"),
    "refuse": lambda found: refuse(found, "exceeded quota"),
    "ready": at_once,
}


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ("0 wait, 5 fail, 64 fail, 65 fail", "waiting waiting waiting failed"),
        ("0 wait, 5 fail, 50 fail, 60 ready", "waiting waiting waiting ready"),
        ("0 wait, 5 fail, 50 wait, 60 fail, 70 fail, 120 fail", "waiting waiting waiting waiting waiting failed"),
        ("0 fail, 100 fail, 110 wait, 120 fail, 180 fail", "waiting waiting waiting waiting failed"),
        ("0 wait, 1 refuse, 100 refuse, 110 fail, 200 fail", "waiting refused refused waiting waiting"),
    ],
)
def test_a_failure_is_believed_once_it_has_lasted(seen: str, told: str) -> None:
    progress, found, states = rollout.RolloutProgress(since=1, patience=60), {"metadata": {"generation": 3}}, []
    for look in seen.split(", "):
        moment, what = look.split()
        BECOMES[what](found)
        states.append(progress.update(found, float(moment))[0])
    assert states == told.split()


def test_a_failure_of_the_bundle_before_is_not_taken_for_one_of_the_new(
    double: KubernetesDouble, service: InferenceService
) -> None:
    double.controller = lambda found: fail(found, "no objects under that of before")
    double.change("offers", double.controller)
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, service, seconds=30, patience=0)
        with double.changed:
            assert double.changed.wait_for(lambda: double.told == 1, 10)
        double.change("offers", at_once)
        assert moving.result(20)[-1] == f"InferenceService bank/offers serves {NEW}"


def test_a_return_that_fails_too_says_both(double: KubernetesDouble, service: InferenceService) -> None:
    double.controller = lambda found: become(found, False, "0 of 2 pods are up")
    with pytest.raises(
        ServiceError,
        match=f"not ready after 1 seconds: 0 of 2 .*; .* has not returned to {OLD}: .* not ready after 1 sec",
    ):
        move(service, seconds=1)
    assert served(double) == OLD


def test_a_change_that_is_never_seen_is_taken_back(double: KubernetesDouble, service: InferenceService) -> None:
    """A controller that comes back finds nothing to do, and its Deployment as it was."""
    double.controller = lambda found: None
    with pytest.raises(ServiceError, match=f"controller has not seen the change yet; .* has returned to {OLD}"):
        move(service, seconds=1)


def test_a_first_bundle_that_fails_says_that_there_is_nothing_to_return_to(
    double: KubernetesDouble, service: InferenceService
) -> None:
    del double.services["offers"]["spec"]["predictor"]["model"]["storageUri"]
    with pytest.raises(ServiceError, match=r"golden row 3 .*; there is no earlier release to return to"):
        move(service, wrong)


def test_it_waits_for_the_controller(double: KubernetesDouble, service: InferenceService) -> None:
    double.controller = lambda found: None
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, service, seconds=30)
        with double.changed:
            assert double.changed.wait_for(lambda: served(double) == NEW, 10)
        double.change("offers", lambda found: become(found, False, "pulling the image"))
        assert not moving.done()
        double.change("offers", at_once)
        assert moving.result(20)[-1] == f"InferenceService bank/offers serves {NEW}"


@pytest.mark.parametrize("ahead", [-2, 0, 5])
def test_a_stale_status_is_not_taken_for_the_new_one(
    double: KubernetesDouble, service: InferenceService, ahead: int
) -> None:
    double.controller = lambda found: None
    double.change("offers", lambda found: become(found, True, ahead=ahead))
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, service, seconds=30)
        with double.changed:
            assert double.changed.wait_for(lambda: double.told == 1, 10)
        double.change("offers", lambda found: become(found, False, "pulling the image", ahead))
        with double.changed:
            assert double.changed.wait_for(lambda: double.told == 2, 10)
        assert not moving.done()
        double.change("offers", lambda found: become(found, True, ahead=ahead))
        assert moving.result(20)[-1] == f"InferenceService bank/offers serves {NEW}"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "does not know who asks"),
        (403, 'the Role deploy-release grants offers/offers: .* User "me" cannot patch resource'),
        (404, "'make deploy' makes it: .* not found"),
        (409, "somebody else changed it at the same time"),
        (500, "the cluster answers 500: Internal error occurred: failed calling webhook"),
    ],
)
def test_a_refusal_changes_nothing(
    double: KubernetesDouble, service: InferenceService, status: int, sentence: str
) -> None:
    double.refuse[f"PATCH {SERVICES}/offers"] = status
    with pytest.raises(ServiceError, match=f"can't change InferenceService bank/offers: .*{sentence}"):
        move(service)
    assert served(double) == OLD


def test_an_unknown_service(double: KubernetesDouble) -> None:
    with pytest.raises(ServiceError, match=r"can't read InferenceService bank/other: there is none of that name"):
        InferenceService(double.api(), "bank", "other").read()


def test_a_deleted_service(double: KubernetesDouble, service: InferenceService) -> None:
    double.controller = lambda found: None
    changed = service.apply(RolloutTarget(NEW))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(service.wait, 30, rollout.seen(changed) + 1)
        with double.changed:
            assert double.changed.wait_for(lambda: double.told == 1, 10)
            del double.services["offers"]
            double.changed.notify_all()
        with pytest.raises(ServiceError, match="offers was deleted while it was waited for"):
            waiting.result(20)


def test_a_watch_that_breaks_off_at_once(double: KubernetesDouble, service: InferenceService) -> None:
    double.lasts, double.breaks = 0, True
    with pytest.raises(ServiceError, match="can't watch InferenceService bank/offers: the cluster does not answer"):
        service.wait(5, 0)


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("refused", [0, 403, 500])
def test_a_watch_is_begun_again_where_the_server_restarts(
    double: KubernetesDouble, service: InferenceService, monkeypatch: pytest.MonkeyPatch, breaks: bool, refused: int
) -> None:
    """One that starts again refuses what it has not read the Roles for."""
    monkeypatch.setattr(inference_service, "PAUSE", 0.01)
    double.controller = lambda found: become(found, False, "pulling the image")
    double.lasts, double.breaks, watched = 1, breaks, ("GET", SERVICES)
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, service, seconds=30)
        with double.changed:
            assert double.changed.wait_for(lambda: double.told == 1, 10)
            if refused:
                double.refuse[f"GET {SERVICES}"] = refused
        while [request[:2] for request in double.requests].count(watched) < 3:
            assert not moving.done()
        double.refuse, double.lasts = {}, None
        double.change("offers", at_once)
        assert moving.result(20)[-1] == f"InferenceService bank/offers serves {NEW}"


def test_a_cluster_that_stays_away_is_told(
    double: KubernetesDouble, service: InferenceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_service, "PAUSE", 0.5)
    double.controller = lambda found: become(found, False, "pulling the image")
    double.change("offers", double.controller)
    double.lasts, double.breaks = 1, True
    with pytest.raises(ServiceError, match="can't watch InferenceService bank/offers: the cluster does not answer"):
        service.wait(1, 0)


def test_a_service_that_is_not_there_is_not_made(double: KubernetesDouble) -> None:
    with pytest.raises(ServiceError, match="can't read InferenceService bank/other: there is none of that name"):
        InferenceService(double.api(), "bank", "other").apply(RolloutTarget(NEW))
    assert "other" not in double.services


def test_where_kserve_is_not_installed(double: KubernetesDouble) -> None:
    with pytest.raises(ServiceError, match=r"or KServe is not installed \(404\); 'make deploy' makes it: Not Found"):
        InferenceService(double.api(), "elsewhere", "offers").read()


def test_nobody_there(double: KubernetesDouble) -> None:
    api = double.api()
    api.configuration.host = "http://127.0.0.1:9"
    with pytest.raises(ServiceError, match="the cluster does not answer"):
        InferenceService(api, "bank", "offers").read()
