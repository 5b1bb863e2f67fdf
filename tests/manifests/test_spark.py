"""The namespace of Spark, the SparkApplication and the schedule, held against their schemas and our code."""

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from cli.submission import _arguments
from deployment.spark_scoring import KEY, TEMPLATE, application
from tests.support.licences import ROOT
from tests.support.rendered import Object, of, rendered

SCHEMA = yaml.safe_load((Path(__file__).parent / "spark_application.yaml").read_text("utf-8"))
VERSIONS = ("1.30", "1.34")


def body() -> Object:
    (settings,) = of(rendered("spark"), "ConfigMap", TEMPLATE)
    return application(settings["data"][KEY], "offers-spark", "offers-spark:1", "{}")


def pod(spec: Object, role: str) -> Object:
    """The pod that Spark makes of a driver or an executor, as far as the application says what is in it."""
    part = spec[role]
    container = {"name": role, "image": spec["image"], "envFrom": part["envFrom"], "volumeMounts": part["volumeMounts"]}
    inner = {
        "containers": [container | {"securityContext": part["securityContext"]}],
        "securityContext": part["podSecurityContext"],
        "serviceAccountName": part["serviceAccount"],
        "volumes": spec["volumes"],
    }
    labels = part["labels"] | {"spark-role": role}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": role, "labels": labels}, "spec": inner}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", ["spark", "scoring"])
def test_every_object_is_one_that_kubernetes_knows(path: str, version: str) -> None:
    for item in rendered(path):
        kubernetes_validate.validate(item, version, strict=True)
    for role in ("driver", "executor"):
        kubernetes_validate.validate(pod(body()["spec"], role), version, strict=True)


def test_the_operator_s_schema_takes_the_application_and_no_strange_field() -> None:
    jsonschema.validate(body(), SCHEMA)
    for wrong in ({"suspend": True}, {"timeToLiveSeconds": "7d"}, {"mode": "in-cluster"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(body() | {"spec": body()["spec"] | wrong}, SCHEMA)


def test_the_application_runs_our_program_with_the_spark_of_the_lock() -> None:
    spec = body()["spec"]
    assert f'spark = ["pyspark=={spec["sparkVersion"]}"]' in (ROOT / "pyproject.toml").read_text("utf-8")
    program = spec["mainApplicationFile"].partition("site-packages/")[2]
    assert (ROOT / program).is_file()
    same, other = (application(yaml.safe_dump(body()), "n", "i", order)["metadata"]["name"] for order in ("a", "b"))
    assert same != other
    assert same == application(yaml.safe_dump(body()), "n", "i", "a")["metadata"]["name"]


def test_its_pods_have_the_rights_of_a_restricted_namespace_and_no_more_than_they_need() -> None:
    objects, spec = rendered("spark"), body()["spec"]
    accounts = {item["metadata"]["name"]: item for item in of(objects, "ServiceAccount")}
    for role in ("driver", "executor"):
        part = spec[role]
        context = part["securityContext"] | part["podSecurityContext"]
        assert context["runAsNonRoot"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert part["serviceAccount"] in accounts
    assert accounts["spark-executor"]["automountServiceAccountToken"] is False
    rights = {item["metadata"]["name"]: item["rules"] for item in of(objects, "Role")}
    assert rights["spark-scoring"][0]["verbs"] == ["create", "get", "delete"]
    assert rights["spark-scoring"][1]["resourceNames"] == [TEMPLATE]


def test_driver_and_executors_reach_each_other_at_the_ports_of_the_application() -> None:
    objects, spec = rendered("spark"), body()["spec"]
    ports = {int(value) for name, value in spec["sparkConf"].items() if name.lower().endswith("port")}
    (policy,) = of(objects, "NetworkPolicy", "spark")
    for rules in (policy["spec"]["ingress"], policy["spec"]["egress"]):
        assert {port["port"] for rule in rules for port in rule["ports"]} == ports
    for name in ("spark", "object-store"):
        (policy,) = of(objects, "NetworkPolicy", name)
        for role in ("driver", "executor"):
            assert _selects(policy["spec"]["podSelector"], pod(spec, role)["metadata"]["labels"])
    (policy,) = of(objects, "NetworkPolicy", "driver")
    chosen = [
        _selects(policy["spec"]["podSelector"], pod(spec, r)["metadata"]["labels"]) for r in ("driver", "executor")
    ]
    assert chosen == [True, False]


def test_the_schedule_is_one_that_the_command_takes() -> None:
    (job,) = of(rendered("scoring"), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (variable,) = (entry for entry in container["env"] if entry["name"] == "OFFERS_PIPELINE_IMAGE")
    assert variable["value"] == container["image"]
    assert container["command"] == ["offers", "pipeline", "schedule", "score"]
    options = [argument.removeprefix("--").partition("=")[::2] for argument in container["args"]]
    contract = dict(options)["contract"]
    more = [value for name, value in options if name == "set"]
    name, arguments = _arguments("score", contract, {"publish": "", "source": ""}, more)
    assert name == f"score-{contract}"
    assert arguments["shards"] == 4
    assert len(dict(options)["cron"].split()) == 6


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    matched = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return matched and all(entry["key"] in labels for entry in selector.get("matchExpressions", []))
