"""The manifests as kustomize renders them, held against the schemas of Kubernetes and KServe, and against our code."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from decimal import Decimal
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, cast

import kubernetes.client
import kubernetes_validate
import prometheus_client
import pytest
import typer
import yaml

from cli import retrain
from cli.main import app
from offers.contract import market as markets
from offers.settings import Settings
from pipelines.placement import CONFIG
from serving.process.server import Server

# Before kserve: `protocol` hides pytest's arguments from kserve, which would parse them.
from serving.protocol.dataplane import ServicePlane
from serving.protocol.rest import application
from serving.ranker.feed import Feed
from serving.ranker.routing_source import FOLDER
from tests.support.rendered import (
    FETCHES,
    MANIFESTS,
    Object,
    containers,
    of,
    pods,
    rendered,
    serving_pod,
    storage_initializer,
)

from kserve import models as kserve_models  # isort: skip

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "tests" / "manifests" / "alerts.yaml"
VERSIONS = ("1.30", "1.31", "1.32", "1.33", "1.34")
OURS = {"offers-serving", "offers-drift", "offers-pipeline-python"}


ISSUERS_KEYS = "callers"
"""A ConfigMap that the cluster's people write, as they write the Secrets."""


@pytest.fixture(
    params=["base", "overlays/kind", "overlays/aws", "overlays/production", "overlays/market", "overlays/pages"]
)
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    return rendered(request.param)


def matching(objects: tuple[Object, ...], selector: Object) -> list[Object]:
    def fits(labels: dict[str, str]) -> bool:
        plain = selector.get("matchLabels", {}).items() <= labels.items()
        return plain and all(
            rule["key"] in labels and (rule["operator"] == "Exists" or labels[rule["key"]] in rule["values"])
            for rule in selector.get("matchExpressions", [])
        )

    return [pod for pod in pods(objects) if fits(pod["metadata"].get("labels", {}))]


def ports(pod: Object) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    }


def unknown(data: Any, kind: str, path: str) -> Iterator[str]:
    """Paths of what a model of the KServe SDK, or of the Kubernetes client, does not know."""
    if match := re.fullmatch(r"list\[(.+)\]", kind):
        for place, item in enumerate(data):
            yield from unknown(item, match[1], f"{path}[{place}]")
    elif match := re.fullmatch(r"dict\(str, (.+)\)", kind):
        for key, item in data.items():
            yield from unknown(item, match[1], f"{path}.{key}")
    elif kind in ("str", "int", "bool"):
        if type(data).__name__ != kind:
            yield f"{path}: expected {kind}, got {data!r}"
    elif kind != "object":
        model = getattr(kserve_models, kind, None) or getattr(kubernetes.client, kind)
        names = {model.attribute_map[key]: known for key, known in model.openapi_types.items()}
        for key, item in data.items():
            if key not in names:
                yield f"{path}.{key}"
            else:
                yield from unknown(item, names[key], f"{path}.{key}")


def quantity(text: str) -> Decimal:
    number, unit = re.fullmatch(r"([0-9.]+)(m|Mi|Gi|)", text).groups()  # type: ignore[union-attr]
    return Decimal(number) * {"m": Decimal("0.001"), "": Decimal(1), "Mi": Decimal(2**20), "Gi": Decimal(2**30)}[unit]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_that_kubernetes_knows(objects: tuple[Object, ...], version: str) -> None:
    for item in (*objects, serving_pod(objects)):
        if not item["apiVersion"].startswith("serving.kserve.io/"):
            kubernetes_validate.validate(item, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_noticed() -> None:
    pod = serving_pod(rendered("base"))
    pod["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(pod, VERSIONS[0], strict=True)


def test_kserve_knows_every_field_of_its_resources(objects: tuple[Object, ...]) -> None:
    (runtime,), (service,) = of(objects, "ServingRuntime"), of(objects, "InferenceService")
    assert runtime["apiVersion"] == "serving.kserve.io/v1alpha1"
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert list(unknown(runtime, "V1alpha1ServingRuntime", "runtime")) == []
    assert list(unknown(service, "V1beta1InferenceService", "service")) == []
    (storage,) = of(rendered("platform/kserve-storage"), "ClusterStorageContainer")
    assert list(unknown(storage, "V1alpha1ClusterStorageContainer", "storage")) == []
    wrong = service | {"spec": {"predictor": {"minReplicas": "2", "modell": {}}}}
    assert [place.partition(":")[0] for place in unknown(wrong, "V1beta1InferenceService", "service")] == [
        "service.spec.predictor.minReplicas",
        "service.spec.predictor.modell",
    ]


def test_service_and_runtime_fit_each_other(objects: tuple[Object, ...]) -> None:
    (runtime,), (service,) = of(objects, "ServingRuntime"), of(objects, "InferenceService")
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    known = [{key: known[key] for key in ("name", "version")} for known in runtime["spec"]["supportedModelFormats"]]
    assert model["modelFormat"] in known
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
    assert runtime["spec"]["containers"][0]["name"] == "kserve-container"
    assert service["spec"]["predictor"]["containers"][0]["name"] == "transformer-container"


def test_images_have_a_tag_that_does_not_move(objects: tuple[Object, ...]) -> None:
    found = {container["image"] for _, container in containers(objects)}
    for image in found:
        name, _, tag = image.rpartition(":")
        assert name, image
        assert re.fullmatch(r"v?[0-9]+\.[0-9]+\.[0-9]+|[0-9a-f]{40}", tag), image
    names = {image.rpartition(":")[0].rpartition("/")[2] for image in found}
    assert names >= OURS
    assert names - OURS <= {
        "prometheus", "alertmanager", "grafana", "redis", "offers-recommender", "offers-app", "oauth2-proxy", FETCHES
    }  # fmt: skip


def test_runs_that_the_trigger_starts_use_its_own_image(objects: tuple[Object, ...]) -> None:
    (trigger,) = of(objects, "Deployment", "retraining-trigger")
    (container,) = trigger["spec"]["template"]["spec"]["containers"]
    (told,) = (entry["value"] for entry in container["env"] if entry["name"] == "OFFERS_PIPELINE_IMAGE")
    assert told == container["image"]


def test_the_trigger_names_its_account_as_the_cluster_would(objects: tuple[Object, ...]) -> None:
    (trigger,) = of(objects, "Deployment", "retraining-trigger")
    pod = trigger["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = {
        "metadata.namespace": trigger["metadata"]["namespace"],
        "spec.serviceAccountName": pod["serviceAccountName"],
    }
    account = ""
    # Kubernetes replaces what stands before in the list alone.
    known = dict[str, str]()
    for variable in container["env"]:
        if "fieldRef" in variable.get("valueFrom", {}):
            known[f"$({variable['name']})"] = told[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        elif variable["name"] == "OFFERS_ACCOUNT":
            account = variable["value"]
            for name, value in known.items():
                account = account.replace(name, value)
    assert account == f"system:serviceaccount:{trigger['metadata']['namespace']}:retraining-trigger"


def test_no_container_has_more_rights_than_a_restricted_namespace_gives(objects: tuple[Object, ...]) -> None:
    for pod, container in containers(objects):
        mine, shared = container["securityContext"], pod["spec"]["securityContext"]
        assert mine["runAsNonRoot"]
        assert mine.get("readOnlyRootFilesystem", container["name"] == FETCHES)
        assert not mine["allowPrivilegeEscalation"]
        assert mine["capabilities"] == {"drop": ["ALL"]}
        assert mine["seccompProfile"] == {"type": "RuntimeDefault"}
        assert shared["runAsUser"] > 0
        for volume in pod["spec"]["volumes"]:
            claimed = {"persistentVolumeClaim"} if pod["kind"] == "StatefulSet" else set()
            assert volume.keys() - {"name"} <= {"emptyDir", "configMap", "secret"} | claimed, volume


def test_the_namespace_enforces_it() -> None:
    (namespace,) = of(rendered("base"), "Namespace")
    assert namespace["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/audit": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
        "app.kubernetes.io/part-of": "kubeflow-profile",
    }


def test_every_container_says_what_it_needs_and_what_it_may_take(objects: tuple[Object, ...]) -> None:
    (limits,) = of(objects, "LimitRange")
    most = limits["spec"]["limits"][0]["max"]
    for _, container in containers(objects):
        for resource in ("cpu", "memory"):
            asked = quantity(container["resources"]["requests"][resource])
            allowed = quantity(container["resources"]["limits"][resource])
            assert 0 < asked <= allowed <= quantity(most[resource])


def total(objects: tuple[Object, ...], kind: str, resource: str, extra: int = 0) -> Decimal:
    """Sum of all pods' `requests` or `limits`, with `extra` serving pods beside those that are asked for."""
    (service,) = of(objects, "InferenceService")
    found = Decimal(0)
    for pod in pods(objects):
        number = service["spec"]["predictor"]["minReplicas"] + extra if pod["kind"] == "Pod" else 1
        found += number * counted(pod["spec"], kind, resource)
    return found


def counted(spec: Object, kind: str, resource: str) -> Decimal:
    """What the API counts for a pod: its containers together, or one that runs before them where that takes more."""
    before, together = (
        [quantity(one["resources"][kind][resource]) for one in spec.get(key, [])]
        for key in ("initContainers", "containers")
    )
    return max([*before, sum(together, Decimal(0))])


@pytest.mark.parametrize("kind", ["requests", "limits"])
@pytest.mark.parametrize("resource", ["cpu", "memory"])
def test_a_roll_out_fits_the_quota(objects: tuple[Object, ...], kind: str, resource: str) -> None:
    """One new pod more than replicas, and the old pods, which count for as long as they take to end."""
    (quota,), (service,) = of(objects, "ResourceQuota"), of(objects, "InferenceService")
    ending = service["spec"]["predictor"]["minReplicas"]
    assert total(objects, kind, resource, extra=1 + ending) <= quantity(quota["spec"]["hard"][f"{kind}.{resource}"])


def test_the_laptop_s_overlay_leaves_room_for_kubeflow() -> None:
    """Of 4 CPUs and 8 GiB, Kubernetes, Kubeflow Pipelines and KServe take about 2 CPUs and 5 GiB."""
    assert total(rendered("overlays/kind"), "requests", "cpu") <= 1
    assert total(rendered("overlays/kind"), "requests", "memory") <= quantity("2Gi")


def test_probes_ask_ports_that_exist(objects: tuple[Object, ...]) -> None:
    for pod, container in containers(objects):
        if pod["kind"] in ("Job", "CronJob") or container["name"] == FETCHES:
            continue
        assert {"startupProbe", "livenessProbe"} <= container.keys(), container["name"]
        own = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            # What listens on loopback alone has no port, and is asked from within.
            if "exec" not in container.get(probe, {"exec": None}):
                asked = container[probe].get("httpGet") or container[probe]["tcpSocket"]
                assert asked["port"] in own


def test_mounts_have_their_volumes(objects: tuple[Object, ...]) -> None:
    maps = {item["metadata"]["name"] for item in of(objects, "ConfigMap")}
    for pod in pods(objects):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert len(volumes) == len(pod["spec"]["volumes"])
        used = {mount["name"] for one in pod["spec"]["containers"] for mount in one.get("volumeMounts", [])}
        assert used == set(volumes)
        assert {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume} <= maps | {
            ISSUERS_KEYS
        }


def test_services_lead_to_ports_of_pods(objects: tuple[Object, ...]) -> None:
    ours = [service for service in of(objects, "Service") if service["metadata"]["namespace"] == "offers"]
    for service in ours:
        found = matching(objects, {"matchLabels": service["spec"]["selector"]})
        assert len(found) == 1, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            known = ports(found[0])
            assert port["targetPort"] in known or port["targetPort"] in known.values()


def test_controllers_select_their_own_pods(objects: tuple[Object, ...]) -> None:
    for deployment in of(objects, "Deployment"):
        selector, template = deployment["spec"]["selector"], deployment["spec"]["template"]
        assert selector["matchLabels"].items() <= template["metadata"]["labels"].items()
    for budget in of(objects, "PodDisruptionBudget"):
        assert len(matching(objects, budget["spec"]["selector"])) == 1


def test_policies_name_pods_and_ports_that_exist(objects: tuple[Object, ...]) -> None:
    # Of those for Kubeflow the pods are not here.
    ours = (one for one in of(objects, "NetworkPolicy") if one["metadata"]["namespace"] == "offers")
    # A canary's predictor is made by `offers deploy`: the first container of a serving pod, under another name.
    challenger = deepcopy(serving_pod(objects)) | {"kind": "Pod"}
    challenger["metadata"]["labels"] = {"serving.kserve.io/inferenceservice": "offers-challenger"}
    challenger["spec"]["containers"] = challenger["spec"]["containers"][:1]

    def chosen(selector: Object) -> list[Object]:
        return matching(objects, selector) or [
            one for one in [challenger] if selector.get("matchLabels") == one["metadata"]["labels"]
        ]

    for policy in ours:
        spec, name = policy["spec"], policy["metadata"]["name"]
        selected = chosen(spec["podSelector"])
        assert selected, name
        for rule in spec.get("ingress", []):
            listening = {port for pod in selected for port in ports(pod).values()}
            assert {port["port"] for port in rule["ports"]} <= listening, name
        for rule in spec.get("egress", []):
            for peer in rule.get("to", []):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    asked = chosen(peer["podSelector"])
                    assert asked, name
                    listening = {port for pod in asked for port in ports(pod).values()}
                    assert {port["port"] for port in rule["ports"]} <= listening, name


def test_nothing_goes_in_or_out_unless_it_is_listed(objects: tuple[Object, ...]) -> None:
    (deny,) = of(objects, "NetworkPolicy", "default-deny")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_what_pods_say_to_each_other_is_allowed_on_both_sides() -> None:
    """The sidecar's sink is the trigger's service: its name, its port and the policies on the way."""
    objects = rendered("base")
    (sink,) = (one for one in serving_pod(objects)["spec"]["containers"][2]["args"] if one.startswith("--sink="))
    (service,) = of(objects, "Service", "retraining-trigger")
    assert sink == f"--sink=http://{service['metadata']['name']}.{service['metadata']['namespace']}.svc/"
    assert service["spec"]["ports"][0]["port"] == 80
    (outward,), (inward,) = of(objects, "NetworkPolicy", "alarms-out"), of(objects, "NetworkPolicy", "alarms-in")
    assert outward["spec"]["podSelector"] == inward["spec"]["ingress"][0]["from"][0]["podSelector"]
    assert inward["spec"]["podSelector"] == outward["spec"]["egress"][0]["to"][0]["podSelector"]


def test_the_trigger_may_ask_the_predictor_which_bundle_it_serves() -> None:
    objects = rendered("base")
    (trigger,) = of(objects, "Deployment", "retraining-trigger")
    (container,) = trigger["spec"]["template"]["spec"]["containers"]
    (service,) = of(objects, "Service", "predictor")
    (port,) = service["spec"]["ports"]
    assert f"--smoke-url=http://predictor.offers.svc:{port['port']}" in container["args"]
    assert "--update-labels=250" in container["args"]
    (inward,), (outward,) = of(objects, "NetworkPolicy", "smoke-test"), of(objects, "NetworkPolicy", "alarms-in")
    (rule,) = inward["spec"]["ingress"]
    assert {"podSelector": outward["spec"]["podSelector"]} in rule["from"]
    way = {"to": [{"podSelector": inward["spec"]["podSelector"]}], "ports": rule["ports"]}
    assert way in outward["spec"]["egress"]


def test_two_accounts_have_rights_in_our_namespace_and_nobody_has_others() -> None:
    """What the step that promotes needs is told by `test_releases`; Prometheus finds its targets."""
    objects = rendered("overlays/kind")
    (beyond,) = of(objects, "ClusterRole")
    assert [rule["resources"] for rule in beyond["rules"]] == [["selfsubjectreviews"]]
    rules = {role["metadata"]["name"]: role["rules"] for role in of(objects, "Role")}
    assert rules.keys() == {"deploy-release", "find-pods"}
    assert rules["find-pods"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    (service,) = of(objects, "InferenceService")
    for item in (*of(objects, "Role"), *of(objects, "RoleBinding")):
        assert item["metadata"]["namespace"] == service["metadata"]["namespace"]
    bound = {item["roleRef"]["name"]: item["subjects"] for item in of(objects, "RoleBinding")}
    assert bound == {
        "deploy-release": [{"kind": "ServiceAccount", "name": "pipeline-runner", "namespace": "kubeflow"}],
        "find-pods": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": "offers"}],
    }


def test_only_prometheus_carries_a_token(objects: tuple[Object, ...]) -> None:
    accounts = {account["metadata"]["name"] for account in of(objects, "ServiceAccount")}
    for account in of(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for pod in pods(objects):
        account = pod["spec"]["serviceAccountName"]
        assert account in accounts
        assert pod["spec"]["automountServiceAccountToken"] is (account == "prometheus")


def test_secrets_are_named_and_never_written(objects: tuple[Object, ...]) -> None:
    assert not list(of(objects, "Secret"))
    maps = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in of(objects, "ConfigMap")}
    for pod, container in containers(objects):
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                assert source["secretRef"]["name"].startswith("object-store")
            else:
                assert (pod["metadata"]["namespace"], source["configMapRef"]["name"]) in maps


def test_in_production_each_pod_has_keys_of_its_own_and_callers_need_tokens() -> None:
    objects = rendered("overlays/production")
    secrets = {
        container["name"]: [
            source["secretRef"]["name"] for source in container.get("envFrom", []) if "secretRef" in source
        ]
        for _, container in containers(objects)
    }
    assert secrets["transformer-container"] == ["object-store-serving"]
    assert secrets["trigger"] == ["object-store-retraining-trigger"]
    assert secrets["bucket"] == ["object-store"]
    assert secrets["upkeep"] == ["object-store-upkeep"]
    (account,) = of(objects, "ServiceAccount", "serving")
    assert account["secrets"] == [{"name": "object-store-serving"}]
    ranker = next(one for _, one in containers(objects) if one["name"] == "transformer-container")
    assert {"--jwks=/etc/callers/jwks.json", "--quota=100"} < set(ranker["args"])
    assert {"name": "callers", "mountPath": "/etc/callers", "readOnly": True} in ranker["volumeMounts"]


def test_the_services_take_the_arguments_that_they_are_given() -> None:
    for place, module in enumerate(("serving.predictor", "serving.ranker")):
        container = serving_pod(rendered("base"))["spec"]["containers"][place]
        assert container["command"] == ["python", "-m", module]
        given = [one.replace("{{.Name}}", "offers") for one in container["args"]]
        arguments = [one for one in given if not one.startswith(("--routing", "--spool", "--pseudonym_key", "--wait"))]
        assert "--wait" in given
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert done.returncode == 2
        assert "/mnt/models" in done.stderr
        assert "usage:" not in done.stderr
        listening = {int(one.partition("=")[2]) for one in arguments if re.match("--(http|grpc)_port=", one)}
        assert {port["containerPort"] for port in container["ports"]} <= listening


def test_the_recommender_and_its_shipper_take_the_arguments_that_they_are_given() -> None:
    (deployment,) = of(rendered("overlays/market"), "Deployment", "recommender")
    recommender, shipper = deployment["spec"]["template"]["spec"]["containers"]
    # Nobody's name is looked up here.
    given = [one.replace("online-store.offers.svc:6379", "127.0.0.1:1") for one in recommender["args"]]
    command = [sys.executable, *recommender["command"][1:], *given]
    bucket = {"OFFERS_S3_ENDPOINT": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300, env=os.environ | bucket
    )
    assert (done.returncode, "usage:" in done.stderr) == (2, False), done.stderr
    # It finds the champion before its store.
    assert "s3://offers/routing/" in done.stderr
    source = (ROOT / "serving" / "shipper" / "__main__.py").read_text("utf-8")
    known = set(re.findall(r'add_argument\("(--\w+)"', source))
    assert shipper["command"] == ["python", "-m", "serving.shipper"]
    assert {one.partition("=")[0] for one in shipper["args"]} <= known
    (spool,) = (one for one in recommender["args"] if one.startswith("--spool="))
    assert spool in shipper["args"]


def test_the_recommender_follows_the_champion_where_a_promotion_writes_it() -> None:
    (deployment,) = of(rendered("overlays/market"), "Deployment", "recommender")
    (container, _) = deployment["spec"]["template"]["spec"]["containers"]
    market = next(one["value"] for one in container["env"] if one["name"] == "MARKET")
    assert market in markets.shipped()
    (routing,) = (one.partition("=")[2] for one in container["args"] if one.startswith("--routing="))
    assert routing.replace("$(MARKET)", market) == f"s3://offers/{FOLDER}/{market}.json"
    # A bundle that is named stands before the champion, until the first look.
    assert not any(one.startswith("--bundle") for one in container["args"])


def test_a_market_reaches_its_store_from_both_sides_and_nobody_else_does() -> None:
    objects = rendered("overlays/market")
    (store,) = of(objects, "Service", "online-store")
    (deployment,) = of(objects, "Deployment", "recommender")
    (recommender, _) = deployment["spec"]["template"]["spec"]["containers"]
    place = f"@{store['metadata']['name']}.{store['metadata']['namespace']}.svc:{store['spec']['ports'][0]['port']}/"
    assert [place in one for one in recommender["args"] if one.startswith("--store=")] == [True]
    (outward,), (inward,) = of(objects, "NetworkPolicy", "recommender"), of(objects, "NetworkPolicy", "online-store")
    (way,), (rule,) = outward["spec"]["egress"], inward["spec"]["ingress"]
    assert way == {"to": [{"podSelector": inward["spec"]["podSelector"]}], "ports": rule["ports"]}
    assert rule["from"][0] == {"podSelector": outward["spec"]["podSelector"]}
    assert rule["from"][1]["podSelector"] == {"matchLabels": {"pipelines.kubeflow.org/v2_component": "true"}}


def test_a_prometheus_may_ask_each_scraped_port_of_a_market() -> None:
    objects = rendered("overlays/market")
    (policy,) = of(objects, "NetworkPolicy", "recommender-scrape")
    (rule,) = policy["spec"]["ingress"]
    (pod,) = matching(objects, policy["spec"]["podSelector"])
    scrape = yaml.safe_load((MANIFESTS / "components" / "observability" / "scrape.yaml").read_text("utf-8"))
    (names,) = (
        one["regex"].split("|")
        for one in scrape["scrape_configs"][0]["relabel_configs"]
        if one["source_labels"] == ["__meta_kubernetes_pod_container_port_name"]
    )
    assert {port["port"] for port in rule["ports"]} == {number for name, number in ports(pod).items() if name in names}
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchExpressions"] == [{"key": "offers/metrics", "operator": "Exists"}]


def test_nobody_reaches_the_pages_past_the_sign_on_whose_header_names_the_person() -> None:
    objects = rendered("overlays/pages")
    (deployment,), (service,) = of(objects, "Deployment", "pages"), of(objects, "Service", "pages")
    app, sign_on = deployment["spec"]["template"]["spec"]["containers"]
    assert "ports" not in app
    assert [service["spec"]["ports"][0]["targetPort"]] == [port["name"] for port in sign_on["ports"]]
    port = next(one.partition("=")[2] for one in app["args"] if one.startswith("--port="))
    assert (app["args"][0], sign_on["args"][2]) == ("--host=127.0.0.1", f"--upstream=http://127.0.0.1:{port}")
    pages = Settings.from_env({one["name"]: one["value"] for one in app["env"]}).pages
    assert pages.person_header == "X-Forwarded-Email"
    # The ranker's token comes from a Secret, which only a ranker that asks for tokens needs.
    (mounted,) = (one for one in app["volumeMounts"] if str(pages.token_file).startswith(f"{one['mountPath']}/"))
    volumes = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["volumes"]}
    assert (mounted["readOnly"], volumes[mounted["name"]]["secret"]["optional"]) == (True, True)
    # The services that it asks, through the policies of both sides.
    (outward,), (inward,) = of(objects, "NetworkPolicy", "pages"), of(objects, "NetworkPolicy", "pages-ask")
    (ways,) = (rule for rule in outward["spec"]["egress"] if "to" in rule)
    assert ways == {
        "to": [{"podSelector": inward["spec"]["podSelector"]}],
        "ports": inward["spec"]["ingress"][0]["ports"],
    }
    for url in (pages.ranker, pages.drift):
        name, _, place = url.removeprefix("http://").partition(".offers.svc")
        (asked,) = of(objects, "Service", name)
        assert int(place.removeprefix(":") or 80) in {one["port"] for one in asked["spec"]["ports"]}


def test_ranker_and_shipper_take_the_arguments_of_the_log(objects: tuple[Object, ...]) -> None:
    ranker, shipper = (serving_pod(objects)["spec"]["containers"][place] for place in (1, 3))
    assert shipper["command"] == ["python", "-m", "serving.shipper"]
    for container in (ranker, shipper):
        call = [sys.executable, *container["command"][1:], "--help"]
        usage = subprocess.run(call, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        assert {one.partition("=")[0] for one in container["args"]} <= set(re.findall(r"--\w+", usage))
    told = [dict(re.findall(r"--(\w+)=(\S+)", " ".join(one["args"]))) for one in (ranker, shipper)]
    assert told[0]["spool"] == told[1]["spool"]
    assert told[1]["tables"].rpartition("/")[0] == told[0]["routing"].partition("/routing/")[0]
    volumes = {volume["name"]: volume for volume in serving_pod(objects)["spec"]["volumes"]}
    for container, reads in ((ranker, {"spool", "pseudonym-key"}), (shipper, {"spool"})):
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert reads <= mounts.keys()
        assert mounts["spool"] == told[0]["spool"]
    # The ranker refuses before the kubelet evicts the pod, even with a segment that is under way.
    assert quantity(volumes["spool"]["emptyDir"]["sizeLimit"]) >= int(told[0]["spool_limit"]) * 2**20 * 5 / 4
    assert volumes["pseudonym-key"]["secret"]["secretName"] == "pseudonym-key"


def test_the_sidecar_knows_the_arguments_that_it_is_given() -> None:
    """Its environment is another one, so its source has to tell."""
    source = (ROOT / "serving" / "drift" / "__main__.py").read_text("utf-8")
    known = set(re.findall(r'add_argument\("(--\w+)"', source))
    container = serving_pod(rendered("base"))["spec"]["containers"][2]
    assert container["command"] == ["python", "-m", "serving.drift"]
    assert {one.partition("=")[0] for one in container["args"]} <= known


def test_the_trigger_takes_the_arguments_that_it_is_given(
    objects: tuple[Object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (trigger,) = of(objects, "Deployment", "retraining-trigger")
    (container,) = trigger["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["offers", "retrain", "listen"]
    listen = typer.main.get_command(retrain.app).commands["listen"]  # type: ignore[attr-defined]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value", "k" * 32))
    context = listen.make_context("listen", list(container["args"]))
    assert context.params["port"] == ports({"spec": {"containers": [container]}})["http"]
    assert context.params["kubeflow"]
    (settings,) = (item for item in of(objects, "ConfigMap") if "OFFERS_BUCKET" in item["data"])
    (ledger,) = (one["value"] for one in container["env"] if one["name"] == "OFFERS_LEDGER")
    for place in (context.params["publish"], ledger):
        assert re.match(f"s3://{settings['data']['OFFERS_BUCKET']}(/|$)", place)


def test_what_follows_the_ledger_calls_a_command_and_reaches_the_predictor() -> None:
    objects = rendered("overlays/kind")
    (follower,) = rendered("releases")
    kubernetes_validate.validate(follower, VERSIONS[0], strict=True)
    job = follower["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    shell, option, script, _ = container["command"]
    assert (shell, option, script.partition(" || ")[0]) == ("sh", "-c", 'offers deploy "$@"')
    context = typer.main.get_command(app).commands["deploy"].make_context("deploy", list(container["args"]))  # type: ignore[attr-defined]
    (service,) = of(objects, "InferenceService")
    assert context.params["service"] == f"{service['metadata']['namespace']}/{service['metadata']['name']}"
    (inward,) = of(objects, "NetworkPolicy", "smoke-test")
    (rule,) = inward["spec"]["ingress"]
    (pipelines, _) = rule["from"]
    assert list(pipelines["namespaceSelector"]["matchLabels"].values()) == [follower["metadata"]["namespace"]]
    assert pipelines["podSelector"]["matchLabels"].items() <= job["template"]["metadata"]["labels"].items()
    assert follower["spec"]["concurrencyPolicy"] == "Forbid"
    # Kubeflow's own account, whose step that promotes has the same rights.
    (bound,) = of(objects, "RoleBinding", "deploy-release")
    account = {"kind": "ServiceAccount", "name": job["template"]["spec"]["serviceAccountName"], "namespace": "kubeflow"}
    assert bound["subjects"] == [account]


def default(of_what: type, parameter: str) -> float:
    return float(inspect.signature(of_what).parameters[parameter].default)


def test_a_pod_that_ends_answers_what_still_comes(objects: tuple[Object, ...]) -> None:
    """The ranker waits before it stops, the two that it needs for longer, and the pod for all of them."""
    pod = serving_pod(objects)["spec"]
    waits = {}
    for container in pod["containers"]:
        python, option, program = container["lifecycle"]["preStop"]["exec"]["command"]
        assert (python, option) == (container["command"][0], "-c")
        waits[container["name"]] = int(re.fullmatch(r"import time; time\.sleep\((\d+)\)", program)[1])  # type: ignore[index]
    ranker, feed = waits["transformer-container"], default(Feed, "grace")
    assert ranker > 0
    assert waits["kserve-container"] > ranker
    assert waits["drift"] > ranker + feed
    services = default(Server, "grace")
    assert services == 30
    longest = max(waits["kserve-container"] + services, ranker + services + feed)
    (ships,) = (int(one.partition("=")[2]) for one in pod["containers"][3]["args"] if one.startswith("--grace="))
    assert ships > longest
    longest = max(longest, waits["shipper"] + ships)
    assert pod["terminationGracePeriodSeconds"] > longest


def exported() -> set[str]:
    """Names of the series that our services export; the sidecar's from its source, as its libraries are not here."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    families = [one for one in prometheus_client.REGISTRY.collect() if one.name.startswith("offers_")]
    series = {family.name + ending for family in families for ending in endings.get(family.type, [""])}
    figures = (ROOT / "serving" / "drift" / "metrics.py").read_text("utf-8")
    series |= {f"offers_drift_{name}_total" for name in re.findall(r'_counters?\(\s*"(\w+)"', figures)}
    series |= {f"offers_drift_{name}" for name in re.findall(r'_gauge\(\s*"(\w+)"', figures)}
    columns, scores = figures.partition("def _scores")[::2]
    series |= {f"offers_drift_column_{name}" for name in re.findall(r'^\s+"(\w+)": \("', columns, re.MULTILINE)}
    series |= {f"offers_drift_{name}" for name in re.findall(r'^\s+"(\w+)": \("', scores, re.MULTILINE)}
    # The trigger has a registry of its own.
    trigger = (ROOT / "pipelines" / "trigger.py").read_text("utf-8")
    series |= {f"{name}_total" for name in re.findall(r'Counter\(\s*"(offers_\w+)"', trigger)}
    return series | set(re.findall(r'Gauge\(\s*"(offers_\w+)"', trigger))


def test_every_dashboard_is_shipped_and_lays_its_panels_side_by_side() -> None:
    place = MANIFESTS / "components" / "observability"
    files = sorted(path.name for path in place.glob("*.json"))
    component = yaml.safe_load((place / "kustomization.yaml").read_text("utf-8"))
    (shipped,) = (one["files"] for one in component["configMapGenerator"] if one["name"] == "grafana-dashboards")
    assert sorted(shipped) == files
    boards = [json.loads((place / name).read_text("utf-8")) for name in files]
    assert len({board["uid"] for board in boards}) == len(boards)
    for board in boards:
        cells = [
            (x, y)
            for where in (panel["gridPos"] for panel in board["panels"])
            for x in range(where["x"], where["x"] + where["w"])
            for y in range(where["y"], where["y"] + where["h"])
        ]
        assert len(cells) == len(set(cells)), board["title"]
        assert max(x for x, _ in cells) < 24, board["title"]
        assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in board["panels"]), board["title"]


def asked() -> dict[str, str]:
    """What alerts and panels ask Prometheus, by their names."""
    place = MANIFESTS / "components" / "observability"
    rules = yaml.safe_load((place / "alerts.yaml").read_text("utf-8"))["groups"][0]["rules"]
    boards = [json.loads(path.read_text("utf-8")) for path in sorted(place.glob("*.json"))]
    panels = {
        f"{board['title']}: {panel['title']}": " ".join(target["expr"] for target in panel["targets"])
        for board in boards
        for panel in board["panels"]
    }
    return {rule["alert"]: rule["expr"] for rule in rules} | panels


def test_alerts_and_panels_ask_for_series_that_the_services_export() -> None:
    known = exported()
    for name, question in asked().items():
        used = set(re.findall(r"\boffers_\w+", question))
        assert used <= known, name
        assert used or "up{" in question, name


SCRAPED = {"container", "pod", "le"}
"""Labels that Prometheus adds, or that a histogram has."""


def test_each_question_has_series_that_are_there_before_the_first_request() -> None:
    """A panel whose series appear with a fault is empty as long as all is well, and looks broken."""
    application(ServicePlane([]))
    families = {family.name: family for family in prometheus_client.REGISTRY.collect()}
    for name, question in asked().items():
        for series, matchers in re.findall(r"\b(offers_\w+)\{([^}]*)\}", question):
            wanted = {
                label: (operator, value)
                for label, operator, value in re.findall(r'(\w+)(=~|=|!=|!~)"([^"]*)"', matchers)
                if label not in SCRAPED
            }
            if not wanted:
                continue
            family = families[re.sub(r"_(total|bucket|sum|count)$", "", series)]
            samples = [sample.labels for sample in family.samples if sample.name == series]
            fitting = [labels for labels in samples if all(_fits(labels, *one) for one in wanted.items())]
            assert fitting, f"{name}: {series}{{{matchers}}}"


def _fits(labels: dict[str, str], label: str, matcher: tuple[str, str]) -> bool:
    operator, value = matcher
    same = re.fullmatch(value, labels[label]) is not None if operator.endswith("~") else labels[label] == value
    return same == operator.startswith("=")


def test_questions_are_about_containers_that_exist() -> None:
    there = {container["name"] for _, container in containers(rendered("overlays/kind"))}
    for name, question in asked().items():
        assert set(re.findall(r'container="([^"]+)"', question)) <= there, name


def test_requests_are_counted_where_customers_are_answered() -> None:
    """No probe, no scrape, no page; nor `:explain`, which the ranker has no answer to."""
    routes = application(ServicePlane([])).app.routes
    ranked = {route.name for route in routes if "POST" in route.methods} - {"/v1/models/{model_name}:explain"}
    for name, question in asked().items():
        selectors = re.findall(r"offers_request(?:s_total|_seconds_bucket)\{(.+?)\}", question)
        for selector in selectors:
            (pattern,) = re.findall(r'route=~"([^"]+)"', selector)
            assert {route.name for route in routes if re.fullmatch(pattern, route.name)} == ranked, name


def test_alerts_fire_on_what_they_are_for_and_on_nothing_near_it() -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not here: the alerts are NOT tested; install the package prometheus")
    done = subprocess.run(["promtool", "test", "rules", ALERTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_to_fire_and_to_keep_quiet() -> None:
    tests = yaml.safe_load(ALERTS.read_text("utf-8"))["tests"]
    seen = {(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]}
    rules = yaml.safe_load((MANIFESTS / "components" / "observability" / "alerts.yaml").read_text("utf-8"))
    names = {rule["alert"] for rule in rules["groups"][0]["rules"]}
    assert seen == {(name, fires) for name in names for fires in (True, False)}


def test_every_alert_has_its_page_in_the_runbook() -> None:
    rules = yaml.safe_load((MANIFESTS / "components" / "observability" / "alerts.yaml").read_text("utf-8"))
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in rules["groups"][0]["rules"])
    for rule in rules["groups"][0]["rules"]:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_scraped_ports_are_the_ones_that_serve_metrics() -> None:
    scrape = yaml.safe_load((MANIFESTS / "components" / "observability" / "scrape.yaml").read_text("utf-8"))
    (names,) = (
        rule["regex"].split("|")
        for rule in scrape["scrape_configs"][0]["relabel_configs"]
        if rule["source_labels"] == ["__meta_kubernetes_pod_container_port_name"]
    )
    scraped = [
        (pod, ports(pod)) for pod in pods(rendered("overlays/kind"))
        if pod["metadata"].get("annotations", {}).get("prometheus.io/scrape") == "true"
    ]  # fmt: skip
    assert len(scraped) == 2
    allowed = {
        port["port"]
        for policy in of(rendered("overlays/kind"), "NetworkPolicy", "scrape-out")
        for rule in policy["spec"]["egress"]
        for port in rule["ports"]
    }
    for _, known in scraped:
        found = {number for name, number in known.items() if name in names}
        assert found
        assert found <= allowed


def test_kind_leads_its_node_ports_to_loopback() -> None:
    nodes = yaml.safe_load((ROOT / "kind-config.yaml").read_text("utf-8"))["nodes"]
    mapped = [port for node in nodes for port in node.get("extraPortMappings", [])]
    assert {port["listenAddress"] for port in mapped} == {"127.0.0.1"}
    services = [item for item in of(rendered("overlays/kind"), "Service") if item["spec"].get("type") == "NodePort"]
    assert {port["containerPort"] for port in mapped} == {
        port["nodePort"] for service in services for port in service["spec"]["ports"]
    }
    (quota,) = of(rendered("overlays/kind"), "ResourceQuota")
    ours = [service for service in services if service["metadata"]["namespace"] == "offers"]
    assert quota["spec"]["hard"]["services.nodeports"] == str(len(ours))


def test_node_ports_are_open_to_the_nodes_of_docker_and_podman() -> None:
    policies = of(rendered("overlays/kind"), "NetworkPolicy", "node-ports")
    kubeflows, ours = sorted(policies, key=lambda policy: str(policy["metadata"]["namespace"]))
    (rule,) = ours["spec"]["ingress"]
    assert kubeflows["spec"]["ingress"] == [rule | {"ports": [{"protocol": "TCP", "port": 3000}]}]
    blocks = [ip_network(peer["ipBlock"]["cidr"]) for peer in rule["from"]]
    for node in ("172.18.0.2", "192.168.16.2", "10.89.0.2"):
        assert any(ip_address(node) in block for block in blocks), node
    for outside in ("8.8.8.8", "10.244.0.7"):
        assert not any(ip_address(outside) in block for block in blocks), outside


@pytest.mark.parametrize("receiver", ["alertmanager", "mail", "webhook", "pagerduty"])
def test_alertmanager_takes_each_of_our_receivers(receiver: str) -> None:
    if not shutil.which("amtool"):
        pytest.skip("amtool is not here: the receivers are NOT tested; install the package prometheus-alertmanager")
    file = MANIFESTS / "components" / "observability" / "receivers" / f"{receiver}.yaml"
    done = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_alert_of_each_severity_reaches_the_one_who_is_to_be_called() -> None:
    if not shutil.which("amtool"):
        pytest.skip("amtool is not here: the routes are NOT tested; install the package prometheus-alertmanager")
    file = MANIFESTS / "components" / "observability" / "receivers" / "pagerduty.yaml"
    for severity, receiver in (("critical", "pager"), ("warning", "chat")):
        command = ["amtool", "config", "routes", "test", f"--config.file={file}", f"severity={severity}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == receiver, done.stderr


def test_prometheus_tells_alertmanager() -> None:
    scrape = yaml.safe_load((MANIFESTS / "components" / "observability" / "scrape.yaml").read_text("utf-8"))
    ((target,),) = [one["targets"] for one in scrape["alerting"]["alertmanagers"][0]["static_configs"]]
    (service,) = of(rendered("overlays/kind"), "Service", "alertmanager")
    assert target == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"


def fetched(part: str) -> list[str]:
    """What a part of the platform takes from elsewhere."""
    path = MANIFESTS / "platform" / part / "kustomization.yaml"
    return [one for one in yaml.safe_load(path.read_text("utf-8"))["resources"] if "://" in one]


def test_the_platform_is_pinned() -> None:
    parts = {path.parent.name: fetched(path.parent.name) for path in (MANIFESTS / "platform").glob("*/*.yaml")}
    ours = {"kserve-production", "kserve-storage", "pipelines-mlflow"}
    assert {part for part, resources in parts.items() if not resources} == ours
    for resource in (one for resources in parts.values() for one in resources):
        assert re.search(r"/v[0-9]+\.[0-9]+\.[0-9]+/|\?ref=[0-9]+\.[0-9]+\.[0-9]+&timeout=600s$", resource), resource
    tag = storage_initializer()["image"].rpartition(":")[2]
    assert f"/{tag}/" in fetched("kserve")[0]


def test_a_kserve_of_another_hand_is_given_the_same_rights() -> None:
    readme = (MANIFESTS / "platform" / "README.md").read_text("utf-8")
    (patch,) = re.findall(
        r"^kubectl patch clusterstoragecontainer default --type=merge -p '(.*)'$", readme, re.MULTILINE
    )
    told = json.loads(patch)["spec"]["container"]
    assert told == {"securityContext": storage_initializer()["securityContext"]}


INSTALLED = [
    ("v1", "ConfigMap", "inferenceservice-config"),
    ("apps/v1", "Deployment", "kserve-controller-manager"),
    ("apps/v1", "Deployment", "kserve-localmodel-controller-manager"),
    ("apps/v1", "Deployment", "llmisvc-controller-manager"),
    ("apps/v1", "DaemonSet", "kserve-localmodelnode-agent"),
    ("serving.kserve.io/v1alpha1", "ClusterStorageContainer", "default"),
]
"""What matters here of the objects in KServe's file."""


def rendered_over(part: str, made: list[Object], directory: Path) -> tuple[Object, ...]:
    """What a part of the platform makes of these objects, in the place of those that it fetches."""
    shutil.copytree(MANIFESTS / "platform" / part, directory / part)
    (directory / part / "fetched.yaml").write_text(yaml.safe_dump_all(made))
    path = directory / part / "kustomization.yaml"
    path.write_text(path.read_text("utf-8").replace(fetched(part)[0], "fetched.yaml"))
    return rendered(str(path.parent))


def test_what_is_left_out_of_kserve(tmp_path: Path) -> None:
    """Its own storage container, which no API server knows before its definition; controllers that we do not need."""
    made: list[Object] = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "kserve"}}
        for version, kind, name in INSTALLED
    ]
    kept = rendered_over("kserve", made, tmp_path)
    assert {(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in kept} == set(INSTALLED[:2])


def kubeflow_deployment(name: str, container: str, **content: Any) -> Object:
    """What matters here of a deployment of Kubeflow's."""
    spec = {"template": {"spec": {"containers": [{"name": container, "image": "x:1", **content}]}}}
    metadata = {"name": name, "namespace": "kubeflow"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


KUBEFLOW = [
    kubeflow_deployment("seaweedfs", "seaweedfs", args=["server", "-s3", "-filer"]),
    kubeflow_deployment("ml-pipeline", "ml-pipeline-api-server", env=[{"name": "LOG_LEVEL", "value": "info"}]),
    kubeflow_deployment(
        "ml-pipeline-persistenceagent",
        "ml-pipeline-persistenceagent",
        env=[{"name": "TTL_SECONDS_AFTER_WORKFLOW_FINISH", "value": "86400"}, {"name": "NUM_WORKERS", "value": "2"}],
    ),
    kubeflow_deployment(
        "workflow-controller", "workflow-controller", env=[{"name": "ARGO_EXECUTOR_PLUGINS", "value": "true"}]
    ),
]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kubeflow")


@pytest.fixture(scope="module")
def kubeflow(platform: Path) -> tuple[Object, ...]:
    return rendered_over("pipelines", KUBEFLOW, platform)


@pytest.fixture(scope="module")
def kubeflow_with_mlflow(kubeflow: tuple[Object, ...], platform: Path) -> tuple[Object, ...]:
    shutil.copytree(MANIFESTS / "platform" / "pipelines-mlflow", platform / "pipelines-mlflow")
    return rendered(str(platform / "pipelines-mlflow"))


def container_of(objects: tuple[Object, ...], name: str) -> Object:
    (deployment,) = of(objects, "Deployment", name)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return cast(Object, container)


def variables(container: Object) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"]}


def test_seaweedfs_has_volumes_for_a_second_bucket(kubeflow: tuple[Object, ...]) -> None:
    assert container_of(kubeflow, "seaweedfs")["args"] == ["server", "-s3", "-filer", "-volume.max=64"]


def test_a_run_is_kept_by_kubeflow_as_long_as_our_pipelines_ask(kubeflow: tuple[Object, ...]) -> None:
    kept = variables(container_of(kubeflow, "ml-pipeline-persistenceagent"))
    assert kept == {"TTL_SECONDS_AFTER_WORKFLOW_FINISH": "604800", "NUM_WORKERS": "2"}
    times = {CONFIG.ttl_seconds_after_finished, CONFIG.ttl_seconds_after_success, CONFIG.ttl_seconds_after_failure}
    assert times == {604800}


def test_argo_looks_at_a_run_every_two_seconds(kubeflow: tuple[Object, ...]) -> None:
    found = variables(container_of(kubeflow, "workflow-controller"))
    assert found == {"ARGO_EXECUTOR_PLUGINS": "true", "DEFAULT_REQUEUE_TIME": "2s"}


def settings_of(objects: tuple[Object, ...]) -> Any:
    """The settings that Kubeflow's API server reads."""
    (mount,) = container_of(objects, "ml-pipeline")["volumeMounts"]
    assert (mount["mountPath"], mount["subPath"]) == ("/config/config.json", "config.json")
    (deployment,) = of(objects, "Deployment", "ml-pipeline")
    (volume,) = deployment["spec"]["template"]["spec"]["volumes"]
    (config,) = of(objects, "ConfigMap", volume["configMap"]["name"])
    return json.loads(config["data"]["config.json"])


def test_kubeflows_mlflow_plugin_is_off(kubeflow: tuple[Object, ...]) -> None:
    settings = settings_of(kubeflow)
    assert "plugins" not in settings
    assert settings["DBDriverName"] == "mysql"
    assert not list(of(kubeflow, "Deployment", "mlflow"))


def test_an_option_starts_an_mlflow_that_the_plugin_tells(
    kubeflow: tuple[Object, ...], kubeflow_with_mlflow: tuple[Object, ...]
) -> None:
    settings = settings_of(kubeflow_with_mlflow)
    plugin = settings.pop("plugins")["mlflow"]
    assert settings == settings_of(kubeflow)
    (service,) = of(kubeflow_with_mlflow, "Service", "mlflow")
    (port,) = service["spec"]["ports"]
    address = f"{service['metadata']['name']}.{service['metadata']['namespace']}:{port['port']}"
    assert plugin["endpoint"] == f"http://{address}"
    # The steps get its address, and so does the mirror in them.
    assert (plugin["settings"]["authType"], plugin["settings"]["injectUserEnvVars"]) == ("none", True)
    container = container_of(kubeflow_with_mlflow, "mlflow")
    (hosts,) = (one for one in container["args"] if one.startswith("--allowed-hosts="))
    assert address in hosts.partition("=")[2].split(",")
    rights = container["securityContext"]
    assert (rights["readOnlyRootFilesystem"], rights["capabilities"]) == (True, {"drop": ["ALL"]})
    (deployment,) = of(kubeflow_with_mlflow, "Deployment", "mlflow")
    assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]
    (policy,) = of(kubeflow_with_mlflow, "NetworkPolicy", "mlflow")
    assert (policy["spec"]["policyTypes"], policy["spec"]["egress"]) == (["Egress"], [])


def test_kubeflow_is_closed_but_for_its_own_namespace_the_trigger_and_a_webhook(kubeflow: tuple[Object, ...]) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in of(kubeflow, "NetworkPolicy")}
    assert policies.keys() == {"same-namespace", "retraining-trigger", "cache-webhook"}
    assert policies["same-namespace"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {}}]}],
    }
    (rule,) = policies["retraining-trigger"]["ingress"]
    (trigger,) = of(rendered("base"), "Deployment", "retraining-trigger")
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "offers"}
    assert peer["podSelector"]["matchLabels"].items() <= trigger["spec"]["template"]["metadata"]["labels"].items()
    assert rule["ports"] == [{"protocol": "TCP", "port": 8888}]
    assert policies["cache-webhook"]["podSelector"]["matchLabels"] == {"app": "cache-server"}


def test_in_production_kserves_controller_has_a_second_and_a_budget(tmp_path: Path) -> None:
    made: list[Object] = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "kserve"}}
        for version, kind, name in INSTALLED
    ]
    labels = {"control-plane": "kserve-controller-manager"}
    made[1]["spec"] = {"replicas": 1, "template": {"metadata": {"labels": labels}, "spec": {"containers": []}}}
    rendered_over("kserve", made, tmp_path)
    shutil.copytree(MANIFESTS / "platform" / "kserve-production", tmp_path / "kserve-production")
    objects = rendered(str(tmp_path / "kserve-production"))
    (controller,) = of(objects, "Deployment")
    (budget,) = of(objects, "PodDisruptionBudget")
    assert controller["spec"]["replicas"] == 2
    assert budget["spec"] == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    assert budget["metadata"]["namespace"] == "kserve"
