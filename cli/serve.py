"""offers serve and offers rank: the services on this machine, and a question to them."""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
TablesOption = Annotated[
    str, typer.Option(help="Directory, or s3:// prefix, of the tables of the decision log; tables in the local home.")
]
CustomerOption = Annotated[
    str, typer.Option(help="JSON file with an instance or a whole request; - for standard input.")
]
ExplainOption = Annotated[bool, typer.Option("--explain", help="Tell the reasons in sentences, too.")]
UrlOption = Annotated[str, typer.Option(help="Where the ranker answers.")]


def serve(
    bundle: BundleOption = "",
    catalogue: CatalogueOption = "",
    port: PortOption = 8080,
    sink: SinkOption = "",
    tables: TablesOption = "",
) -> None:
    """Serve the champion on loopback until Ctrl-C: predictor, ranker, drift sidecar and shipper of the decision log.

    Promotions take place at once. Where nobody has promoted a release yet, or a bundle is named, that bundle is served.
    """
    typer.echo("Predictor, ranker and drift sidecar start ...")
    from cli.follow import follow
    from offers.contract import contract as contracts
    from offers.decisions.pseudonym import Pseudonyms
    from offers.governance.access import open_ledger
    from offers.governance.follower import contract_to_follow
    from offers.policy import catalogue as catalogues
    from offers.settings import Settings
    from serving.addresses import Addresses
    from serving.local import Log, SidecarOptions, services, sidecar_python
    from serving.ranker.question import example

    settings = Settings.from_env()
    log = Log(tables or str(settings.home / "tables"), settings.home / "pseudonym.key")
    if not bundle and not catalogue and (contract_name := contract_to_follow(open_ledger(settings))):
        Pseudonyms.at(log.key)
        with until_told():
            follow(settings, contract_name, SidecarOptions(sidecar_python(), sink), port, _introduce, log)
        return
    path = _bundle(bundle, settings)
    # The services verify bundle and catalogue themselves, but a wrong name should be refused here at once.
    contract = contracts.load(str(path / "contract.yaml"))
    catalogues.load(catalogue or contract.name, contract)
    Pseudonyms.at(log.key)
    directory, watch = settings.home / "serve", SidecarOptions(sidecar_python(), sink)
    with until_told(), services(path, catalogue or contract.name, directory, port, watch, log) as running:
        request = directory / "request.json"
        request.write_text(json.dumps(example(contract), indent=1) + "\n", "utf-8")
        Addresses.of(running, path, catalogue or contract.name).write(directory)
        _introduce(running, request)
        _wait(running)


def rank(customer: CustomerOption, url: UrlOption = "http://127.0.0.1:8080", explain: ExplainOption = False) -> None:
    """Ask the ranker about a customer, and print the ranked offers with their reasons."""
    from cli.screen import console
    from serving.asking import ask

    request = _request(customer) | ({"explain": True} if explain else {})
    for prediction in ask(url, request)["predictions"]:
        show(prediction, console)


def show(prediction: dict[str, Any], console: Any) -> None:
    """Print the answer for one customer."""
    from rich.text import Text

    from cli.screen import plain_table

    versions = ", ".join(f"{name} {version}" for name, version in prediction["versions"].items() if version)
    customer = (str(prediction["customer_id"]), "bold")
    console.print(Text.assemble("\n", customer, f"  decision {prediction['decision_id']}"), soft_wrap=True)
    console.print(Text(versions, "dim"), soft_wrap=True)
    if prediction["fallback"]:
        console.print("The predictor is away: this is the ranking by value.", style="bold yellow")
    grid = plain_table("", "offer", "propensity", "value", "score", "first", "why here")
    grid.columns[1].no_wrap = True
    for offer in prediction["offers"]:
        figures = (_figure(offer["propensity"], 4), _figure(offer["value"], 2), _figure(offer["score"], 2))
        probability, why = f"{offer['action_probability']:.0%}", ", ".join(filter(str.isupper, offer["reasons"]))
        grid.add_row(str(offer["rank"]), Text(offer["offer_id"]), *figures, probability, Text(why))
    console.print(grid)
    for sentence in (word for offer in prediction["offers"] for word in offer["reasons"] if not word.isupper()):
        console.print(sentence, soft_wrap=True)
    withheld: dict[str, list[str]] = {}
    for offer in prediction["withheld"]:
        codes = "; ".join(f"{reason['code']}, {reason['text']}" for reason in offer["reasons"])
        why = " ".join(offer.get("principal_reasons", ())) or codes
        withheld.setdefault(why, []).append(offer["offer_id"])
    for why, names in withheld.items():
        console.print(Text(f"withheld, {why.removesuffix('.')}: {', '.join(names)}", "dim"))


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _bundle(where: str, settings: "Settings") -> Path:
    from offers.bundle.location import bundle_path
    from offers.errors import BundleError

    path = bundle_path(where or _newest(settings), settings).resolve()
    if not (path / "contract.yaml").is_file():
        paths = dict.fromkeys((path, (settings.home / "bundles" / where).resolve()))
        places = " or ".join(map(str, paths))
        raise BundleError(f"--bundle {where!r}: there is no such bundle; expected its contract.yaml in {places}")
    return path


def _newest(settings: "Settings") -> str:
    from offers.errors import BundleError

    store = settings.home / "bundles"
    manifests = sorted(store.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not manifests:
        raise BundleError(f"{store}: expected a bundle, found none; 'offers demo' or 'offers pipeline run' makes one")
    return str(manifests[-1].parent)


def _introduce(running: "Services", request: Path) -> None:
    ranker, predictor, drift, shipper = running.ranker, running.predictor, running.drift, running.shipper
    assert drift is not None
    assert shipper is not None
    lines = {
        "bundle": drift.bound["bundle"],
        "ranker": f"{ranker.url}/v1/models/offers:predict",
        "page": f"{ranker.url}/docs",
        "predictor": f"{predictor.url}/v2/models/offers, gRPC on 127.0.0.1:{predictor.bound['grpc_port']}",
        "drift": f"{drift.url}/report",
        "decisions": f"{shipper.bound['tables']}/decisions",
        "metrics": ", ".join(f"{service.url}/metrics" for service in (ranker, predictor, drift, shipper)),
        "logs": request.parent,
        "try": f"curl -s {ranker.url}/v1/models/offers:predict -d @{request}",
        "or": f"offers rank --url {ranker.url} --customer {request}",
    }
    for name, line in lines.items():
        typer.echo(f"{name:<10}{line}")
    sys.stdout.flush()


class _Told(BaseException):
    """A signal has asked us to stop."""


@contextmanager
def until_told() -> Iterator[None]:
    """Leave the block at SIGTERM, Ctrl-C or when the terminal closes, whatever it waits for; ignore later signals."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    # If SIGHUP is ignored, nohup wants this process to outlive the terminal.
    numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []

    def leave(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise _Told

    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, leave)
        yield
    except _Told:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(running: "Services") -> None:
    """Wait until a service ends, which none should."""
    from offers.errors import ServiceError

    end = threading.Event()

    def watch(process: Any) -> None:
        process.wait()
        end.set()

    for child in running.processes.values():
        threading.Thread(target=watch, args=(child,), daemon=True).start()
    end.wait()
    for name, child in running.processes.items():
        if child.poll() is not None:
            raise ServiceError(f"the {name} has ended with exit code {child.returncode}; its log tells why")


def _request(customer: str) -> dict[str, Any]:
    from offers.errors import RequestError

    try:
        text = sys.stdin.read() if customer == "-" else Path(customer).read_text("utf-8")
        content = json.loads(text)
        request = content if isinstance(content, dict) and "instances" in content else {"instances": [content]}
        json.dumps(request)
    except (OSError, ValueError) as error:
        raise RequestError(f"{customer}: expected a JSON file with an instance: {error}") from None
    except RecursionError:
        raise RequestError(f"{customer}: expected a JSON file with an instance, got one nested too deeply") from None
    if not isinstance(content, dict):
        raise RequestError(f"{customer}: expected a JSON object, got {type(content).__name__}")
    return request
