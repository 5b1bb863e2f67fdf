"""The commands of the runbook, each held against what knows it: our own command line, make, kubectl, the manifests."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from cli.main import app

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = ROOT / "docs" / "operations.md"
PROGRAMS = ("offers", "make", "kubectl", "amtool")
KUBEFLOW = {"service/ml-pipeline-ui": {80}, "deploy/mysql": set[int](), "serviceaccount": set[int]()}
"""What the runbook names of Kubeflow Pipelines 2.17, with the ports of its services."""


def commands() -> Iterator[list[str]]:
    """Every command of the page, by its words; of one in a sentence there may be the beginning alone."""
    text = RUNBOOK.read_text("utf-8")
    blocks = [block.replace("\\\n", " ") for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in lines:
        said = re.sub(r"^(?:[A-Z_]+=\S* )*", "", line.strip().removesuffix("&")).replace(".venv/bin/offers", "offers")
        program, _, rest = said.partition(" ")
        if program in PROGRAMS and rest and "…" not in said:
            yield shlex.split(said, comments=True)


def of(program: str) -> list[list[str]]:
    return [words for words in commands() if words[0] == program]


def nested() -> list[list[str]]:
    """Our commands, and those that kubectl carries into a pod."""
    carried = [words[words.index("--") + 1 :] for words in of("kubectl") if "--" in words]
    return [*of("offers"), *(words for words in carried if words[0] == "offers")]


@pytest.mark.parametrize("words", nested(), ids=" ".join)
def test_our_own_command_takes_it(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    arguments = words[1:]
    while isinstance(command, click.Group) and arguments:
        assert arguments[0] in command.commands, arguments[0]
        command, arguments = command.commands[arguments[0]], arguments[1:]
    if isinstance(command, click.Group):
        return
    try:
        command.make_context(command.name, arguments)
    except click.MissingParameter:
        # A sentence names the command, and not what it is about.
        assert not arguments


@pytest.mark.parametrize("words", of("make"), ids=" ".join)
def test_make_has_the_target(words: list[str]) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert words[1] in targets


@cache
def kubectl(*arguments: str) -> str:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not here: the commands of the runbook are NOT tested; install kubectl 1.31 or newer")
    return subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=True).stdout


def split(words: list[str]) -> tuple[list[str], str, list[str]]:
    """Verb, namespace and the rest of a kubectl command."""
    own = words[1 : words.index("--")] if "--" in words else words[1:]
    namespace = ""
    while own and own[0].startswith("-"):
        namespace, own = (own[1] if own[0] == "-n" else namespace), own[2:]
    return own[:1], namespace, own[1:]


@pytest.mark.parametrize("words", of("kubectl"), ids=" ".join)
def test_kubectl_knows_verb_and_options(words: list[str]) -> None:
    verb, _, rest = split(words)
    assert verb, words
    verbs = [*verb, *rest[:2]] if verb == ["create"] and rest[0] == "secret" else [*verb, *rest[:1]]
    known = kubectl(*(verbs if verb[0] in ("create", "rollout", "top") else verb), "--help") + kubectl("options")
    for word in rest:
        if word.startswith("--") and (option := word.partition("=")[0]) != "--":
            assert f"{option}=" in known or f"{option}:" in known, option


@cache
def rendered() -> dict[tuple[str, str], dict[str, Any]]:
    texts = [kubectl("kustomize", str(ROOT / "manifests" / "overlays" / overlay)) for overlay in ("kind", "market")]
    found = [one for text in texts for one in yaml.safe_load_all(text) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


@pytest.mark.parametrize("words", of("kubectl"), ids=" ".join)
def test_what_kubectl_is_to_look_at_is_there(words: list[str]) -> None:
    _, namespace, rest = split(words)
    kinds = {"service": "Service", "deploy": "Deployment", "deployment": "Deployment"}
    for word in rest:
        kind, slash, name = word.partition("/")
        if not slash or kind not in kinds:
            continue
        ports = {int(one.rpartition(":")[2]) for one in rest if re.fullmatch(r"\d+(:\d+)?", one)}
        if namespace == "offers" and name != "offers-predictor":
            found = rendered()[kinds[kind], name]
            assert ports <= {one["port"] for one in found["spec"].get("ports", ())} or kind != "service"
        elif namespace == "kubeflow":
            assert ports <= KUBEFLOW[word]


def test_files_that_it_names_are_there() -> None:
    names = re.findall(r"`((?:manifests|pipelines|tests|build|docs)/[\w./-]+)`", RUNBOOK.read_text("utf-8"))
    names = [name for name in names if not name.startswith("build/") and "YOURS" not in name]
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_every_alert_has_its_page() -> None:
    rules = yaml.safe_load((ROOT / "manifests/components/observability/alerts.yaml").read_text("utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    pages = set(re.findall(r"^### (Offers\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE))
    assert alerts == pages
