"""Moving a service on a cluster to another bundle, and back, through the official client and a double of the API."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from deployment import deploy as inference
from deployment import inference_service, rollout
from deployment.deploy import roll_out
from deployment.inference_service import InferenceService
from offers.errors import BundleError, ServiceError
from offers.settings import Settings
from offers.store.s3 import S3Store, connect
from tests.support.kubernetes_double import SERVICES, KubernetesDouble, Right
from tests.support.rendered import of, rendered
from tests.support.runs import ShiftedRun, offers
from tests.support.s3_double import S3Double
from tests.support.services import serving

OLD, NEW = "s3://bank/bundles/shop-0000000000000001", "s3://bank/bundles/shop-0000000000000002"


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


def served(double: KubernetesDouble) -> tuple[str, ...]:
    """The bundle that is served, and those before it, the latest last."""
    now = rollout.present(double.services["offers"])
    return now.uri, *now.previous


def fine(uri: str) -> None: ...


def wrong(uri: str) -> None:
    if uri == NEW:
        raise ServiceError("golden row 3 scores 0.5, expected 0.1")


def move(
    service: InferenceService, smoke: Any = fine, seconds: int = 5, patience: float = rollout.PATIENCE
) -> list[str]:
    said: list[str] = []
    roll_out(service, rollout.forward(service.read(), NEW), smoke, seconds, said.append, patience)
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
    assert served(double) == (NEW, OLD)
    assert asked == [NEW]
    assert said[-1] == f"InferenceService bank/offers serves {NEW}"
    found = double.services["offers"]
    assert found["spec"]["predictor"]["minReplicas"] == 2
    assert found["spec"]["predictor"]["model"]["runtime"] == "offers-bundle"
    assert found["metadata"]["annotations"]["owner"] == "team"
    (managed,) = found["metadata"]["managedFields"]
    assert (managed["manager"], managed["operation"]) == ("offers-rollout", "Apply")
    assert managed["fieldsV1"] == {
        "f:metadata": {"f:annotations": {f"f:{rollout.PREVIOUS}": {}}},
        "f:spec": {"f:predictor": {"f:model": {"f:storageUri": {}}}},
    }


def test_the_end_of_the_ledger_stands_beside_the_bundle(double: KubernetesDouble, service: InferenceService) -> None:
    head = f"41:{'a' * 64}"
    roll_out(service, replace(rollout.forward(service.read(), NEW), head=head), fine, 5)
    found = double.services["offers"]
    assert found["metadata"]["annotations"][rollout.HEAD] == head
    assert rollout.present(found) == rollout.RolloutTarget(NEW, (OLD,), head)
    assert rollout.forward(found, NEW) == rollout.present(found)


def test_definitions_that_would_drop_the_rest_of_the_spec_change_nothing(
    double: KubernetesDouble, service: InferenceService
) -> None:
    double.minimal = True
    before = json.dumps(double.services["offers"])
    with pytest.raises(ServiceError, match=r"would drop the fields that are not named; install the full ones"):
        move(service)
    assert json.dumps(double.services["offers"]) == before


def test_the_same_bundle_again_leaves_the_way_back(double: KubernetesDouble, service: InferenceService) -> None:
    move(service)
    move(service)
    assert served(double) == (NEW, OLD)


def test_a_bundle_that_was_returned_from_is_never_one_to_return_to(
    double: KubernetesDouble, service: InferenceService
) -> None:
    older = "s3://bank/bundles/shop-0000000000000000"
    double.services["offers"]["metadata"]["annotations"][rollout.PREVIOUS] = older
    move(service)
    assert served(double) == (NEW, older, OLD)
    for expected in ((OLD, older), (older,)):
        roll_out(service, rollout.back(service.read()), fine, 5, lambda text: None)
        assert served(double) == expected
    with pytest.raises(ServiceError, match=f"no bundle before {older}"):
        rollout.back(service.read())


def test_a_service_remembers_so_many_bundles_and_no_more(double: KubernetesDouble, service: InferenceService) -> None:
    for number in range(rollout.REMEMBERED + 3):
        target = rollout.forward(service.read(), f"s3://bank/bundles/shop-{number:016x}")
        roll_out(service, target, fine, 5, lambda text: None)
    assert len(served(double)) == rollout.REMEMBERED + 1
    assert served(double)[-1] == "s3://bank/bundles/shop-000000000000000b"


def test_a_first_bundle_has_no_way_back(double: KubernetesDouble, service: InferenceService) -> None:
    del double.services["offers"]["spec"]["predictor"]["model"]["storageUri"]
    with pytest.raises(ServiceError, match="has had no bundle before its first: deploy one"):
        rollout.back(service.read())
    move(service)
    assert served(double) == (NEW,)
    with pytest.raises(ServiceError, match=f"no bundle before {NEW}"):
        rollout.back(service.read())


def test_a_wrong_answer_returns_to_the_bundle_before(double: KubernetesDouble, service: InferenceService) -> None:
    before = "s3://bank/bundles/shop-0000000000000000"
    double.services["offers"]["metadata"]["annotations"][rollout.PREVIOUS] = before
    with pytest.raises(ServiceError, match=f"golden row 3 .*; InferenceService bank/offers has returned to {OLD}"):
        move(service, wrong)
    assert served(double) == (OLD, before)


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
    assert served(double)[0] == OLD


def test_a_bundle_that_never_gets_ready_returns_too(double: KubernetesDouble, service: InferenceService) -> None:
    double.controller = never
    with pytest.raises(ServiceError, match=f"not ready after 1 seconds: 0 of 2 pods are up; .* returned to {OLD}"):
        move(service, seconds=1)
    assert served(double)[0] == OLD


@pytest.mark.usefixtures("looking_often")
def test_a_bundle_that_does_not_exist_returns_early(double: KubernetesDouble, service: InferenceService) -> None:
    double.controller = lambda found: become(found, rollout.present(found).uri != NEW, "storage-initializer runs")
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, service, seconds=60, patience=0.2)
        with double.changed:
            assert double.changed.wait_for(lambda: double.told == 1, 10)
        double.change("offers", lambda found: fail(found, f"no objects under {NEW}"))
        with pytest.raises(
            ServiceError, match=f"can't take up its bundle: no objects under {NEW}; .* returned to {OLD}"
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
    assert served(double)[0] == OLD


def test_a_change_that_is_never_seen_is_taken_back(double: KubernetesDouble, service: InferenceService) -> None:
    """A controller that comes back finds nothing to do, and its Deployment as it was."""
    double.controller = lambda found: None
    with pytest.raises(ServiceError, match=f"controller has not seen the change yet; .* has returned to {OLD}"):
        move(service, seconds=1)


def test_a_first_bundle_that_fails_says_that_there_is_nothing_to_return_to(
    double: KubernetesDouble, service: InferenceService
) -> None:
    del double.services["offers"]["spec"]["predictor"]["model"]["storageUri"]
    with pytest.raises(ServiceError, match=r"golden row 3 .*; there is no earlier bundle to return to"):
        move(service, wrong)


def test_it_waits_for_the_controller(double: KubernetesDouble, service: InferenceService) -> None:
    double.controller = lambda found: None
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, service, seconds=30)
        with double.changed:
            assert double.changed.wait_for(lambda: served(double)[0] == NEW, 10)
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
        (403, 'the Role deploy-bundle grants offers/offers: .* User "me" cannot patch resource'),
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
    assert served(double) == (OLD,)


def test_an_unknown_service(double: KubernetesDouble) -> None:
    with pytest.raises(ServiceError, match=r"can't read InferenceService bank/other: there is none of that name"):
        InferenceService(double.api(), "bank", "other").read()


def test_a_deleted_service(double: KubernetesDouble, service: InferenceService) -> None:
    double.controller = lambda found: None
    changed = service.apply(rollout.forward(service.read(), NEW))
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
        InferenceService(double.api(), "bank", "other").apply(rollout.RolloutTarget(NEW))
    assert "other" not in double.services


def test_where_kserve_is_not_installed(double: KubernetesDouble) -> None:
    with pytest.raises(ServiceError, match=r"or KServe is not installed \(404\); 'make deploy' makes it: Not Found"):
        InferenceService(double.api(), "elsewhere", "offers").read()


def test_nobody_there(double: KubernetesDouble) -> None:
    api = double.api()
    api.configuration.host = "http://127.0.0.1:9"
    with pytest.raises(ServiceError, match="the cluster does not answer"):
        InferenceService(api, "bank", "offers").read()


@pytest.fixture
def environment(
    double: KubernetesDouble, s3: S3Double, shop_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command line finds: a cluster by its kubeconfig, and a store with one bundle."""
    S3Store(connect(s3.settings), "bank", "bundles").put_directory(shop_bundle, shop_bundle.name)
    config = {
        "current-context": "double",
        "clusters": [{"name": "double", "cluster": {"server": double.url}}],
        "contexts": [{"name": "double", "context": {"cluster": "double", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("OFFERS_S3_ENDPOINT", f"http://{s3.address}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")


@pytest.mark.parametrize("overlay", ["base", "overlays/kind", "overlays/aws"])
def test_the_role_grants_what_deploy_and_rollback_ask_for_and_no_more(
    double: KubernetesDouble,
    s3: S3Double,
    shop_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overlay: str,
) -> None:
    settings = Settings(home=tmp_path, s3=s3.settings)
    for prefix in ("older", "bundles"):
        S3Store(connect(s3.settings), "bank", prefix).put_directory(shop_bundle, shop_bundle.name)
    older, newer = (f"s3://bank/{prefix}/{shop_bundle.name}" for prefix in ("older", "bundles"))
    double.services["offers"]["spec"]["predictor"]["model"]["storageUri"] = older
    monkeypatch.setattr(inference, "connect", lambda context: double.api())
    monkeypatch.setattr(inference, "smoke", lambda *_: None)
    inference.deploy(newer, "bank/offers", "http://predictor:8085", 5, settings)
    inference.roll_back("bank/offers", "http://predictor:8085", 5, settings)
    assert served(double) == (older,)
    (role,) = of(rendered(overlay), "Role", "deploy-bundle")
    parts = ("apiGroups", "resources", "resourceNames", "verbs")
    granted = {Right(*right) for rule in role["rules"] for right in product(*map(rule.__getitem__, parts))}
    assert double.rights() == granted


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_the_command_line_deploys_what_a_predictor_serves(
    double: KubernetesDouble, shop_bundle: Path, tmp_path: Path
) -> None:
    uri = f"s3://bank/bundles/{shop_bundle.name}"
    with serving("serving.predictor", tmp_path / "log", "--bundle", shop_bundle) as predictor:
        done = offers(tmp_path, "deploy", uri, "--service", "bank/offers", "--smoke-url", predictor.url)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"InferenceService bank/offers serves {uri}"
        assert served(double) == (uri, OLD)
        missing = offers(tmp_path, "rollback", "--service", "bank/offers", "--smoke-url", predictor.url)
        assert missing.returncode == 2
        assert "bundles/shop-0000000000000001" in missing.stderr
        assert served(double) == (uri, OLD)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answering", "sentence"),
    [
        ("old", "InferenceService bank/offers has returned to {before}"),
        (
            "other",
            "says that it has returned to {before}, but its answers don't show it: {url}: expected {old} within 1 s",
        ),
    ],
)
@pytest.mark.usefixtures("environment")
def test_the_command_line_returns_where_another_bundle_answers(
    double: KubernetesDouble,
    s3: S3Double,
    shop_bundle: Path,
    shifted_run: ShiftedRun,
    tmp_path: Path,
    answering: str,
    sentence: str,
) -> None:
    bundles = {"old": shifted_run.parent.bundle, "new": shifted_run.child.bundle, "other": shop_bundle}
    for bundle in bundles.values():
        S3Store(connect(s3.settings), "bank", "bundles").put_directory(bundle, bundle.name)
    before, uri = (f"s3://bank/bundles/{bundles[which].name}" for which in ("old", "new"))
    double.services["offers"]["spec"]["predictor"]["model"]["storageUri"] = before
    with serving("serving.predictor", tmp_path / "log", "--bundle", bundles[answering]) as predictor:
        url = predictor.url
        done = offers(tmp_path, "deploy", uri, "--service", "bank/offers", "--smoke-url", url, "--seconds", 1)
    assert done.returncode == 2
    assert f"within 1 seconds, but {bundles[answering].name} is served" in done.stderr
    assert sentence.format(before=before, url=url, old=bundles["old"].name) in done.stderr
    assert served(double)[0] == before


@pytest.mark.usefixtures("environment")
def test_a_bundle_that_is_not_there_changes_nothing(double: KubernetesDouble, tmp_path: Path) -> None:
    done = offers(tmp_path, "deploy", NEW, "--service", "bank/offers", "--smoke-url", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert NEW.removeprefix("s3://bank/") in done.stderr
    assert not [request for request in double.requests if request[0] == "PATCH"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("bundles/shop-1",), "expected s3://bucket/prefix/name"),
        ((NEW, "--service", "offers"), "expected NAMESPACE/NAME, as in offers/offers"),
    ],
)
@pytest.mark.usefixtures("environment")
def test_a_mistake_is_told_in_a_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    done = offers(tmp_path, "deploy", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
