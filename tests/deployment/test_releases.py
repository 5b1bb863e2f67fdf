"""What the ledger says and what a cluster serves: promotions, rollbacks, deaths in between, canaries and their pods."""

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from deployment import account, releases, rollout
from deployment.releases import PREDICTOR, SIDECAR, Target
from offers.bundle.bundle import Bundle
from offers.errors import LedgerError, ServiceError
from offers.governance.approval import begin
from offers.governance.canary import CHALLENGER, Canary, Judgement
from offers.governance.entries import CanaryPlan
from offers.settings import Settings
from serving.ranker.routing_source import RoutingObject
from tests.support.cluster_ledger import ClusterLedger
from tests.support.kubernetes_double import PREDICTOR_SPEC, REVIEWS, KubernetesDouble, Right
from tests.support.rendered import of, rendered
from tests.support.s3_double import S3Double

TARGET = Target("bank/offers", "http://predictor:8085", 5)


def at_once(service: dict[str, Any]) -> None:
    service["status"] = {
        "observedGeneration": service["metadata"]["generation"],
        "conditions": [{"type": "Ready", "status": "True", "message": ""}],
    }


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesDouble]:
    with KubernetesDouble(at_once) as found:
        found.add("offers", {"predictor": dict(PREDICTOR_SPEC)})
        monkeypatch.setattr(releases, "connect", lambda context: found.api())
        monkeypatch.setattr(releases, "PAUSE", 0.0)
        yield found


@pytest.fixture
def bank(s3: S3Double, tmp_path: Path) -> ClusterLedger:
    return ClusterLedger(s3, "bank", tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bundles whose golden rows the predictor was asked for; it answers as it should."""
    names: list[str] = []
    monkeypatch.setattr(releases, "smoke", lambda url, bundle, seconds: names.append(bundle.name))
    return names


def served(double: KubernetesDouble) -> str:
    return rollout.present(double.services["offers"]).uri


def routing(bank: ClusterLedger) -> Any:
    return RoutingObject(bank.store, "routing/offers.json", bank.directory / "ranker").read()


def quiet(text: str) -> None: ...


@pytest.mark.usefixtures("asked")
def test_one_uri_moves_bundle_and_catalogue_and_the_ledger_says_it(
    double: KubernetesDouble, bank: ClusterLedger, shop_bundle: Path
) -> None:
    first, dearer = bank.release(shop_bundle), bank.release(shop_bundle, 31)
    releases.promote(first, TARGET, bank.settings, quiet)
    releases.promote(dearer, TARGET, bank.settings, quiet)
    assert served(double) == bank.uri(dearer)
    assert bank.kinds(4) == ["promoting", "promoted"] * 2
    entries = bank.entries()
    head = double.services["offers"]["metadata"]["annotations"][rollout.HEAD]
    assert int(head.partition(":")[0]) == entries[-2].number
    (arm,) = routing(bank).arms
    assert (arm.release, arm.directory.as_posix()) == (dearer, f"releases/{dearer}")
    assert int(routing(bank).head.partition(":")[0]) == entries[-1].number
    assert {entry.account for entry in entries[-4:]} == {"ann@bank.example"}
    assert {entry.account for entry in entries[:-4]} == {""}


@pytest.mark.usefixtures("asked")
def test_a_release_that_was_returned_from_is_never_the_one_before(
    double: KubernetesDouble, bank: ClusterLedger, shop_bundle: Path
) -> None:
    first, second, third = (bank.release(shop_bundle, value) for value in (30, 31, 32))
    for name in (first, second, third):
        releases.promote(name, TARGET, bank.settings, quiet)
    for expected in (second, first):
        releases.take_back("errors since noon", TARGET, bank.settings, quiet)
        assert served(double) == bank.uri(expected)
    assert bank.kinds(2) == ["promoting", "rolled back"]
    with pytest.raises(LedgerError, match="there is no former champion to return to"):
        releases.take_back("again", TARGET, bank.settings, quiet)
    assert served(double) == bank.uri(first)


def test_a_release_that_answers_wrongly_is_returned(
    double: KubernetesDouble, bank: ClusterLedger, shop_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "smoke", lambda *_: None)
    first, second = bank.release(shop_bundle), bank.release(shop_bundle, 31)
    releases.promote(first, TARGET, bank.settings, quiet)

    def wrong(url: str, bundle: Bundle, seconds: float) -> None:
        if bundle.path.parent.name == second:
            raise ServiceError("golden row 3 scores 0.5, expected 0.1")

    monkeypatch.setattr(releases, "smoke", wrong)
    with pytest.raises(
        ServiceError, match=r"entry \d+: returned: golden row 3 scores .* has returned to s3://bank/rel"
    ):
        releases.promote(second, TARGET, bank.settings, quiet)
    assert served(double) == bank.uri(first)
    assert routing(bank).arms[0].release == first
    assert bank.kinds(2) == ["promoting", "returned"]


@pytest.mark.parametrize("died", ["before the switch", "after the switch"])
def test_a_lone_promotion_is_ended_by_whoever_finds_it(
    double: KubernetesDouble, bank: ClusterLedger, shop_bundle: Path, asked: list[str], died: str
) -> None:
    first, second = bank.release(shop_bundle), bank.release(shop_bundle, 31)
    releases.promote(first, TARGET, bank.settings, quiet)
    begin(bank.ledger, bank.keys["olga"], second)
    if died == "after the switch":
        double.services["offers"]["spec"]["predictor"]["model"]["storageUri"] = bank.uri(second)
    asked.clear()
    releases.serve(TARGET, bank.settings, quiet)
    assert (served(double), bank.kinds(2)) == (bank.uri(second), ["promoting", "promoted"])
    assert asked == [shop_bundle.name]
    assert routing(bank).arms[0].release == second


def test_a_lone_promotion_that_answers_wrongly_gives_the_champion_back(
    double: KubernetesDouble, bank: ClusterLedger, shop_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "smoke", lambda *_: None)
    first, second = bank.release(shop_bundle), bank.release(shop_bundle, 31)
    releases.promote(first, TARGET, bank.settings, quiet)
    begin(bank.ledger, bank.keys["olga"], second)
    double.services["offers"]["spec"]["predictor"]["model"]["storageUri"] = bank.uri(second)

    def wrong(url: str, bundle: Bundle, seconds: float) -> None:
        if bundle.path.parent.name == second:
            raise ServiceError("golden row 3 scores 0.5")

    monkeypatch.setattr(releases, "smoke", wrong)
    releases.serve(TARGET, bank.settings, quiet)
    assert (served(double), bank.kinds(2)) == (bank.uri(first), ["promoting", "returned"])


@pytest.mark.usefixtures("asked")
def test_a_promotion_that_was_begun_or_has_ended_is_not_begun_again(
    double: KubernetesDouble, bank: ClusterLedger, shop_bundle: Path
) -> None:
    """A step that Kubernetes starts again finds what the one before has written."""
    first = bank.release(shop_bundle)
    begin(bank.ledger, bank.keys["olga"], first)
    for _ in range(2):
        releases.promote(first, TARGET, bank.settings, quiet)
    assert bank.kinds(2) == ["promoting", "promoted"]
    assert served(double) == bank.uri(first)


@pytest.mark.usefixtures("asked")
def test_a_namespace_that_was_lost_serves_the_champion_again(
    double: KubernetesDouble, bank: ClusterLedger, shop_bundle: Path
) -> None:
    first = bank.release(shop_bundle)
    releases.promote(first, TARGET, bank.settings, quiet)
    number = bank.entries()[-1].number
    del double.services["offers"]
    double.add("offers", {"predictor": dict(PREDICTOR_SPEC)})
    releases.serve(TARGET, bank.settings, quiet)
    assert served(double) == bank.uri(first)
    assert bank.entries()[-1].number == number


def test_what_is_refused_changes_nothing(
    double: KubernetesDouble, bank: ClusterLedger, shop_bundle: Path, s3: S3Double
) -> None:
    candidate = bank.release(shop_bundle, approvers=("ann",))
    assert not releases.serve(TARGET, bank.settings, quiet)
    with pytest.raises(LedgerError, match="nobody has promoted a release yet, so there is none before"):
        releases.take_back("", TARGET, bank.settings, quiet)
    with pytest.raises(LedgerError, match="can't be promoted: it is approved by 1 of 2 people"):
        releases.promote(candidate, TARGET, bank.settings, quiet)
    with pytest.raises(LedgerError, match="release 'none': there is no such release"):
        releases.promote("none", TARGET, bank.settings, quiet)
    with pytest.raises(ServiceError, match="expected OFFERS_LEDGER=s3://bucket, which pods can reach"):
        releases.promote(candidate, TARGET, bank.settings.model_copy(update={"ledger": ""}), quiet)
    with pytest.raises(ServiceError, match="expected NAMESPACE/NAME, as in offers/offers"):
        releases.promote(candidate, Target("offers"), bank.settings, quiet)
    s3.buckets["empty"] = {}
    with pytest.raises(LedgerError, match="s3://empty holds no ledger: 'make deploy' begins one"):
        releases.serve(TARGET, bank.settings.model_copy(update={"ledger": "s3://empty"}), quiet)
    assert not [request for request in double.requests if request[0] == "PATCH"]
    assert bank.kinds(1) == ["approved"]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "it does not know who asks"),
        (403, "the ClusterRole offers-self-review grants it"),
        (404, "which Kubernetes has since 1.28"),
    ],
)
def test_a_cluster_that_does_not_say_who_asks_gets_no_entry(
    double: KubernetesDouble, bank: ClusterLedger, shop_bundle: Path, status: int, sentence: str
) -> None:
    release = bank.release(shop_bundle)
    double.refuse[f"POST {REVIEWS}"] = status
    with pytest.raises(ServiceError, match=f"can't ask the cluster whose account calls it: .*{sentence}"):
        releases.promote(release, TARGET, bank.settings, quiet)
    assert bank.kinds(1) == ["approved"]


def test_a_step_names_its_account_on_a_cluster_alone(
    double: KubernetesDouble, bank: ClusterLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFERS_KEY", str(bank.directory / "olga.pem"))
    monkeypatch.setattr("deployment.cluster.connect", double.api)
    assert account.step_settings() == Settings.from_env()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    double.user = "system:serviceaccount:kubeflow:pipeline-runner"
    assert account.step_settings().account == "system:serviceaccount:kubeflow:pipeline-runner"
    assert double.rights() == {Right("authentication.k8s.io", "selfsubjectreviews", "", "create")}


@pytest.fixture
def ramp(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Canary], Judgement]], None]:
    """Judge canaries by a function in place of the decision log."""

    def judge_by(judge: Callable[[Canary], Judgement]) -> None:
        def looks(tables: object) -> Callable[[Canary, str, datetime], Judgement]:
            return lambda canary, bundle, moment: judge(canary)

        monkeypatch.setattr(releases, "Looks", looks)

    return judge_by


@pytest.mark.usefixtures("asked")
def test_a_canary_gets_a_predictor_of_its_own_until_its_arm_goes(
    double: KubernetesDouble,
    bank: ClusterLedger,
    shop_bundle: Path,
    ramp: Callable[[Callable[[Canary], Judgement]], None],
) -> None:
    first, second = bank.release(shop_bundle), bank.release(shop_bundle, 31)
    releases.promote(first, TARGET, bank.settings, quiet)
    begin(bank.ledger, bank.keys["olga"], second, CanaryPlan(shares=(0.05, 0.5), seconds=0.01, customers=100))
    seen: list[tuple[float, str, str]] = []

    def judge(canary: Canary) -> Judgement:
        (experiment,) = routing(bank).experiments
        (arm,) = experiment.arms
        uri = rollout.present(double.services["offers-challenger"]).uri
        seen.append((arm.share, arm.predictor, uri))
        assert (arm.name, arm.directory.as_posix(), served(double)) == (
            CHALLENGER, f"releases/{second}", bank.uri(first)
        )  # fmt: skip
        return Judgement("", True, "120 customers of each")

    ramp(judge)
    releases.serve(TARGET, bank.settings, quiet)
    where = ("offers-challenger-predictor.bank.svc:8086", bank.uri(second))
    assert set(seen) == {(0.05, *where), (0.5, *where)}
    assert served(double) == bank.uri(second)
    assert bank.kinds(5) == ["promoting", "canary step", "canary step", "canary step", "promoted"]
    assert (routing(bank).experiments, "offers-challenger" in double.services) == ((), False)


@pytest.mark.usefixtures("asked")
def test_a_canary_that_harms_leaves_nothing_behind(
    double: KubernetesDouble,
    bank: ClusterLedger,
    shop_bundle: Path,
    ramp: Callable[[Callable[[Canary], Judgement]], None],
) -> None:
    first, second = bank.release(shop_bundle), bank.release(shop_bundle, 31)
    releases.promote(first, TARGET, bank.settings, quiet)
    begin(bank.ledger, bank.keys["olga"], second, CanaryPlan(shares=(0.05, 0.5), seconds=3600, customers=100))
    made: list[dict[str, Any]] = []

    def judge(canary: Canary) -> Judgement:
        made.append(double.services["offers-challenger"])
        return Judgement("at 5%: latency 90 ms against the champion's 20 ms", False, "")

    ramp(judge)
    releases.serve(TARGET, bank.settings, quiet)
    assert bank.kinds(3) == ["promoting", "canary step", "returned"]
    assert (served(double), routing(bank).experiments) == (bank.uri(first), ())
    assert "offers-challenger" not in double.services
    predictor = made[0]["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["serviceAccountName"]) == (1, "serving")
    assert predictor["labels"] == {"app.kubernetes.io/name": "offers-challenger", "offers/object-store": ""}
    assert "containers" not in predictor


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("overlay", ["base", "overlays/kind", "overlays/aws"])
def test_the_roles_grant_what_is_asked_for_and_no_more(
    double: KubernetesDouble,
    bank: ClusterLedger,
    shop_bundle: Path,
    ramp: Callable[[Callable[[Canary], Judgement]], None],
    overlay: str,
) -> None:
    ramp(lambda canary: Judgement("at 5%: it earns less", False, ""))
    first, second = bank.release(shop_bundle), bank.release(shop_bundle, 31)
    releases.promote(first, TARGET, bank.settings, quiet)
    begin(bank.ledger, bank.keys["olga"], second, CanaryPlan(shares=(0.05, 0.5), seconds=3600, customers=100))
    releases.serve(TARGET, bank.settings, quiet)
    objects = rendered(overlay)
    (role,), (review,) = of(objects, "Role", "deploy-release"), of(objects, "ClusterRole", "offers-self-review")
    granted = {
        Right(group, resource, name, verb)
        for rule in (*role["rules"], *review["rules"])
        for group, resource, name, verb in product(
            rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""]), rule["verbs"]
        )
    }
    assert double.rights() == granted


def test_the_manifests_know_what_the_routing_names() -> None:
    (service,) = of(rendered("base"), "InferenceService", "offers")
    ranker, drift, *_ = service["spec"]["predictor"]["containers"]
    assert f"--predictor_host={PREDICTOR}" in ranker["args"]
    assert f"--drift_url={SIDECAR}" in ranker["args"]
    assert "--routing=s3://offers/routing/offers.json" in ranker["args"]
    assert (ranker["args"][0], drift["args"][0]) == ("--release=/mnt/models", "--bundle=/mnt/models/bundle")
    inward, outward = (next(of(rendered("base"), "NetworkPolicy", f"challenger-{way}")) for way in ("in", "out"))
    assert inward["spec"]["podSelector"] == outward["spec"]["egress"][0]["to"][0]["podSelector"]
    assert inward["spec"]["podSelector"]["matchLabels"] == {"serving.kserve.io/inferenceservice": "offers-challenger"}
