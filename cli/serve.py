"""offers serve and offers rank: the services on this machine, and a question to them."""

import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from offers.settings import Settings
    from serving.local import Services

BundleOption = Annotated[
    str, typer.Option(help="A bundle's path, its name in the local store, or its s3:// URI; by default the newest.")
]
CatalogueOption = Annotated[
    str, typer.Option(help="Name of a shipped catalogue, or a YAML file; the contract's by default.")
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port of the ranker on loopback; 0 for a free one.")]
SinkOption = Annotated[
    str,
    typer.Option(
        help="Where alarms are sent: the address of 'offers retrain listen', or another taker of CloudEvents."
    ),
]
CustomerOption = Annotated[
    str, typer.Option(help="JSON file with an instance or a whole request; - for standard input.")
]
UrlOption = Annotated[str, typer.Option(help="Where the ranker answers.")]


def serve(
    bundle: BundleOption = "", catalogue: CatalogueOption = "", port: PortOption = 8080, sink: SinkOption = ""
) -> None:
    """Serve a bundle on loopback, predictor, ranker and drift sidecar, until Ctrl-C."""
    from offers import contract as contracts
    from offers.settings import Settings
    from offers.training import bundle_path
    from serving.local import Watch, services, sidecar_python
    from serving.question import example

    settings, stopped = Settings.from_env(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    path = bundle_path(bundle or _newest(settings), settings).resolve()
    # The predictor verifies the bundle; what is read here is only what to say.
    contract = contracts.load(str(path / "contract.yaml"))
    directory, watch = settings.home / "serve", Watch(sidecar_python(), sink)
    with services(path, catalogue or contract.name, directory, port, watch) as running:
        request = directory / "request.json"
        request.write_text(json.dumps(example(contract), indent=1) + "\n", "utf-8")
        _introduce(running, request)
        _wait(running, stopped)


def rank(customer: CustomerOption, url: UrlOption = "http://127.0.0.1:8080") -> None:
    """Ask the ranker about a customer, and print the ranked offers with their reasons."""
    from rich.console import Console

    for prediction in ask(url, _request(customer))["predictions"]:
        show(prediction, Console(highlight=False))


def ask(url: str, request: dict[str, Any]) -> dict[str, Any]:
    """Send a request to a ranker; raises RequestError with its sentence where it refuses."""
    import httpx

    from offers.errors import RequestError, ServiceError

    try:
        answer = httpx.post(f"{url.rstrip('/')}/v1/models/offers:predict", json=request, timeout=60)
        content = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise ServiceError(f"no ranker answers at {url}: {reason}; 'offers serve' starts one") from None
    if answer.status_code != 200:
        raise RequestError(f"{url} answers {answer.status_code}: {content.get('error', content)}")
    found: dict[str, Any] = content
    return found


def show(prediction: dict[str, Any], console: Any) -> None:
    """Print the answer for one customer."""
    from rich.table import Table

    versions = ", ".join(f"{name} {version}" for name, version in prediction["versions"].items() if version)
    console.print(f"\n[bold]{prediction['customer_id']}[/bold]  decision {prediction['decision_id']}", soft_wrap=True)
    console.print(versions, style="dim", soft_wrap=True)
    if prediction["fallback"]:
        console.print("The predictor is away: this is the ranking by value.", style="bold yellow")
    ranked = Table("", "offer", "propensity", "value", "score", "first", "why here", box=None, pad_edge=False)
    ranked.columns[1].no_wrap = True
    for offer in prediction["offers"]:
        figures = (_figure(offer["propensity"], 4), _figure(offer["value"], 2), _figure(offer["score"], 2))
        probability = f"{offer['action_probability']:.0%}"
        ranked.add_row(str(offer["rank"]), offer["offer_id"], *figures, probability, ", ".join(offer["reasons"]))
    console.print(ranked)
    withheld: dict[str, list[str]] = {}
    for offer in prediction["withheld"]:
        why = "; ".join(f"{reason['code']}, {reason['text']}" for reason in offer["reasons"])
        withheld.setdefault(why, []).append(offer["offer_id"])
    for why, names in withheld.items():
        console.print(f"withheld, {why}: {', '.join(names)}", style="dim")


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _newest(settings: "Settings") -> str:
    from offers.errors import BundleError

    store = settings.home / "bundles"
    found = sorted(store.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise BundleError(f"{store}: expected a bundle, found none; 'offers demo' or 'offers pipeline run' makes one")
    return str(found[-1].parent)


def _introduce(running: "Services", request: Path) -> None:
    ranker, predictor, drift = running.ranker, running.predictor, running.drift
    assert drift is not None
    lines = {
        "bundle": drift.bound["bundle"],
        "ranker": f"{ranker.url}/v1/models/offers:predict",
        "page": f"{ranker.url}/docs",
        "predictor": f"{predictor.url}/v2/models/offers, gRPC on 127.0.0.1:{predictor.bound['grpc_port']}",
        "drift": f"{drift.url}/report",
        "metrics": ", ".join(f"{service.url}/metrics" for service in (ranker, predictor, drift)),
        "logs": request.parent,
        "try": f"curl -s {ranker.url}/v1/models/offers:predict -d @{request}",
        "or": f"offers rank --url {ranker.url} --customer {request}",
    }
    for name, line in lines.items():
        typer.echo(f"{name:<10}{line}")
    sys.stdout.flush()


def _wait(running: "Services", stopped: threading.Event) -> None:
    from offers.errors import ServiceError

    def watch(process: Any) -> None:
        process.wait()
        stopped.set()

    for child in running.processes.values():
        threading.Thread(target=watch, args=(child,), daemon=True).start()
    stopped.wait()
    for name, child in running.processes.items():
        if child.poll() is not None:
            raise ServiceError(f"the {name} has ended with exit code {child.returncode}; its log tells why")


def _request(customer: str) -> dict[str, Any]:
    from offers.errors import RequestError

    try:
        text = sys.stdin.read() if customer == "-" else Path(customer).read_text("utf-8")
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise RequestError(f"{customer}: expected a JSON file with an instance: {error}") from None
    if not isinstance(content, dict):
        raise RequestError(f"{customer}: expected a JSON object, got {type(content).__name__}")
    return content if "instances" in content else {"instances": [content]}
