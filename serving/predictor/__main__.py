"""Starts the predictor: `python -m serving.predictor --bundle DIR`."""

from pathlib import Path

from offers.background import in_background
from offers.bundle import bundle as bundles
from serving.predictor.model import Predictor
from serving.process import server
from serving.process.waiting import WAIT, wait_for_bundle
from serving.protocol.rows import MAX_ROWS


def main() -> None:
    """Serve a bundle; a mistake in what was given is one sentence on standard error and exit code 2."""
    parser = server.parser("predictor", "Serve the calibrated propensities of one bundle.", grpc_port=8081)
    parser.add_argument("--bundle", type=Path, default=Path("/mnt/models"), help="directory of the bundle")
    parser.add_argument("--expected", default="", help="the name that the bundle has to have")
    parser.add_argument(
        "--max_rows", type=server.whole(1, 10**6), default=MAX_ROWS, help="the most rows of one request"
    )
    parser.add_argument("--wait", action="store_true", help=WAIT)
    arguments = parser.parse_args()
    if arguments.wait:
        wait_for_bundle(arguments.bundle, arguments.host, arguments.http_port)
    with server.starting("predictor"):
        bundle = in_background(lambda: bundles.load(arguments.bundle, arguments.expected))
        predictor = Predictor(arguments.name, bundle, arguments.max_rows)
        server.run(
            [predictor],
            server.Address(arguments.host, arguments.http_port, arguments.grpc_port),
            door=server.door(arguments),
        )


if __name__ == "__main__":
    main()
