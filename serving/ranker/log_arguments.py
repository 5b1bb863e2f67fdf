"""The decision log as the ranker's command line asks for it."""

import argparse
import re
import socket
import uuid
from pathlib import Path
from typing import get_args

from offers.decisions.pseudonym import Pseudonyms
from offers.decisions.spool import Durability, Spool, SpoolLimits
from offers.errors import ServiceError
from serving.process.logs import log
from serving.process.server import seconds, whole
from serving.ranker.decision_log import DecisionLog, WhenFull


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the ranker can be told of its log on the command line."""
    add = parser.add_argument
    add("--spool", default="", help="directory that keeps each decision until the shipper takes it")
    add("--pseudonym_key", default="", help="file with the key of the customers' pseudonyms")
    lasting = "what a logged decision outlives: a killed process, or a loss of power too, for which each answer waits"
    add("--durability", choices=get_args(Durability), default="process", help=lasting)
    add("--spool_limit", type=whole(1, 10**9), default=512, help="MiB that may wait for the shipper")
    add("--seal_seconds", type=seconds, default=5.0, help="age at which a segment is shipped")
    full = "when the spool is full: refuse with 503, or answer unlogged"
    add("--spool_full", choices=get_args(WhenFull), default="refuse", help=full)


def decision_log(arguments: argparse.Namespace) -> DecisionLog | None:
    """The log that the command line asks for, None where it asks for none.

    Raises
    ------
    ServiceError
        a spool without a key, or a key without a spool
    StorageError
        the key or the spool can't be used
    """
    if bool(arguments.spool) != bool(arguments.pseudonym_key):
        raise ServiceError("--spool and --pseudonym_key belong together: expected both or neither")
    if not arguments.spool:
        return None
    pseudonyms = Pseudonyms.read(Path(arguments.pseudonym_key))
    limits = SpoolLimits(
        seal_seconds=arguments.seal_seconds, most_bytes=arguments.spool_limit * 2**20, durability=arguments.durability
    )
    spool = Spool(Path(arguments.spool), writer(), limits)
    if spool.cut:
        log.warning("torn lines cut off", extra={"fields": {"bytes": spool.cut}})
    return DecisionLog(spool, pseudonyms, arguments.spool_full)


def writer() -> str:
    """A name for this start of this machine's ranker: the numbers of its segments begin with 0."""
    host = re.sub("[^A-Za-z0-9.-]", "-", socket.gethostname())[:60].strip("-.")
    return f"{host or 'ranker'}-{uuid.uuid4().hex[:12]}"
