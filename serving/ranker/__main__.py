"""Starts the ranker: `python -m serving.ranker --catalogue NAME --bundle DIR`."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from offers.bundle.location import name_of
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.decisions.spool import Spool
from offers.errors import ServiceError
from offers.governance import release as releases
from offers.http_client import SYSTEM_TLS, ClientTls
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.policy.selection import Selection, selection
from offers.settings import Settings
from serving.process import server
from serving.process.waiting import WAIT, wait_for_bundle
from serving.protocol.kserve import PredictorConfig
from serving.protocol.rows import MAX_ROWS
from serving.ranker.decision_log import DecisionLog
from serving.ranker.feed import Feed, events
from serving.ranker.log_arguments import add_arguments, decision_log
from serving.ranker.predictor_client import SecurePredictorConfig
from serving.ranker.ranker import Ranker


def main() -> None:
    """Serve a catalogue; a mistake in what was given is one sentence on standard error and exit code 2."""
    parser = server.parser("ranker", "Rank the offers of a catalogue by propensity.", grpc_port=8082)
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument("--bundle", default="", help="directory of the predictor's bundle, for its contract")
    origin.add_argument("--release", type=Path, help="directory of a release: the predictor's bundle, and a catalogue")
    origin.add_argument("--contract", default="", help="name of a shipped contract, or a YAML file")
    parser.add_argument(
        "--routing",
        default="",
        help="routing that names release and predictor, and is followed: a file, or s3://bucket/routing/NAME.json, "
        "which need not be there yet where a bundle is given",
    )
    parser.add_argument("--release_home", type=Path, help="directory for copies of the releases that a store has")
    parser.add_argument(
        "--catalogue", default="", help="name of a shipped catalogue, or a file; by default the contract's"
    )
    parser.add_argument("--predictor_host", default="127.0.0.1:8081", help="host and port of the predictor's gRPC")
    parser.add_argument(
        "--predictor_authorities", type=Path, help="PEM file of whom to trust there; calls use TLS then"
    )
    parser.add_argument("--predictor_certificate", type=Path, help="PEM file of the chain that the predictor is shown")
    parser.add_argument("--predictor_key", type=Path, help="PEM file of its private key")
    parser.add_argument("--predictor_timeout", type=server.seconds, default=1.0, help="for a call and its retry")
    parser.add_argument(
        "--max_customers",
        type=server.whole(1, MAX_ROWS),
        help="the most customers of a request; by default as many as the predictor takes, and 1000 at most",
    )
    parser.add_argument("--drift_url", default="", help="where the drift sidecar takes events of scored rows")
    parser.add_argument("--wait", action="store_true", help=WAIT)
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.wait:
        wait_for_bundle(arguments.release or Path(arguments.bundle), arguments.host, arguments.http_port)
    with server.starting("ranker"):
        if arguments.release:
            releases.verify(arguments.release)
            arguments.bundle = str(arguments.release / "bundle")
            arguments.catalogue = str(arguments.release / releases.CATALOGUE)
        address = server.Address(arguments.host, arguments.http_port, arguments.grpc_port)
        log = decision_log(arguments)
        if arguments.routing:
            _follow(arguments, address, log)
            return
        ranker = _alone(arguments, log)
        server.run([ranker], address, *ranker.feeds, *_spool(log), door=server.door(arguments))


def _alone(arguments: argparse.Namespace, log: DecisionLog | None) -> Ranker:
    """A ranker of the bundle or contract that the command line names."""
    if not arguments.bundle and not arguments.contract:
        raise ServiceError("expected --release, --bundle, --contract or --routing")
    bundle = Path(arguments.bundle) if arguments.bundle else None
    contract = contracts.load(str(bundle / "contract.yaml") if bundle else arguments.contract)
    policy = Policy(catalogues.load(arguments.catalogue or contract.name, contract), contract)
    feeds = _feeds(arguments.drift_url)
    return _ranker(arguments, policy, contract, arguments.predictor_host, feeds, log, bundle)


def _follow(arguments: argparse.Namespace, address: server.Address, log: DecisionLog | None) -> None:
    from serving.ranker.routing import Arm
    from serving.ranker.routing_source import open_routing
    from serving.ranker.switching import Switchboard

    def build(arm: Arm) -> Ranker:
        bundle = arm.directory / "bundle"
        contract = contracts.load(str(bundle / "contract.yaml"))
        policy = Policy(catalogues.load(str(arm.policy), contract), contract)
        feeds = _feeds(arm.drift_url)
        return _ranker(arguments, policy, contract, arm.predictor, feeds, log, bundle)

    def note_head(head: str) -> None:
        if log:
            log.ledger_head = head or None

    home = arguments.release_home or Path(tempfile.gettempdir(), "offers")
    source, serving = open_routing(arguments.routing, Settings.from_env(), home), None
    if arguments.bundle:
        # The routing of a cluster may not be there yet, or not answer: the first looks take it up.
        ranker = _alone(arguments, log)
    else:
        if (serving := source.read()) is None:
            raise ServiceError(f"{source.where}: there is no such object; write it, or name a --bundle to begin with")
        ranker = build(source.local(serving).arms[0])
        # Experiments begin at the first look, when their predictors have been proved.
        serving = serving.model_copy(update={"experiments": ()})
    board = Switchboard(source, build, serving, note_head)
    server.run([ranker], address, *ranker.feeds, *_spool(log), following=board.following, door=server.door(arguments))


def _ranker(
    arguments: argparse.Namespace,
    policy: Policy,
    contract: Contract,
    predictor: str,
    feeds: Sequence[Feed],
    log: DecisionLog | None,
    bundle: Path | None,
) -> Ranker:
    config = _config(arguments, predictor)
    selection = _selection(policy, contract, bundle) if bundle and feeds else None
    return Ranker(arguments.name, policy, contract, config, arguments.max_customers, feeds, log, selection)


def _config(arguments: argparse.Namespace, predictor: str) -> PredictorConfig:
    tls = ClientTls(arguments.predictor_authorities, arguments.predictor_certificate, arguments.predictor_key)
    if tls == SYSTEM_TLS:
        return PredictorConfig(predictor, "grpc-v2", False, arguments.predictor_timeout, 1)
    return SecurePredictorConfig(predictor, arguments.predictor_timeout, 1, tls)


def _selection(policy: Policy, contract: Contract, bundle: Path) -> Selection | None:
    """What the rules let pass of the bundle's reference; None of a bundle that has none."""
    reference = bundle / "reference.parquet"
    if not reference.exists():
        return None
    return selection(policy, name_of((bundle / "manifest.json").read_bytes(), contract.name), reference)


def _spool(log: DecisionLog | None) -> list[Spool]:
    return [log.spool] if log else []


def _feeds(drift_url: str) -> list[Feed]:
    return [Feed("drift", events(drift_url), batch=500, seconds=1)] if drift_url else []


if __name__ == "__main__":
    main()
