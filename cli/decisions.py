"""offers decisions: what was decided about whom, made again, erased, verified."""

import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.outcomes import TablesOption
from offers.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from offers.decisions.reproduction import Reproduction
    from offers.retrieval.bundle import MarketBundle
    from offers.settings import Settings
    from offers.store.delta import DeltaTables

app = typer.Typer(no_args_is_help=True, help="Look at decisions, make them again, erase a customer's.")

DecisionArgument = Annotated[str, typer.Argument(help="Id of a decision.")]
CustomerOption = Annotated[str, typer.Option(help="Id of a customer, as the ranker was asked about them.")]
KeyOption = Annotated[
    str, typer.Option(help="File with the key of the customers' pseudonyms; that of the local home by default.")
]
SinceOption = Annotated[str, typer.Option(help="A moment in UTC, or a span before --until such as 7d.")]
UntilOption = Annotated[str, typer.Option(help="A moment in UTC; by default now.")]
SHIPPING_SECONDS = 60.0


@app.command()
def show(
    decision: DecisionArgument = "", customer: CustomerOption = "", tables: TablesOption = "", key: KeyOption = ""
) -> None:
    """Show a decision, or all that was decided about a customer: question, answer, reasons and outcomes."""
    import orjson
    from rich.text import Text

    from cli.screen import console
    from cli.serve import show as show_answer
    from offers.decisions import outcomes

    log, settings = _log(tables)
    told = dict(list(outcomes.read(log).groupby("decision_id")))
    for row in _found(log, settings, decision, customer, key).to_pylist():
        # Tables of earlier versions have no column for the caller.
        by = f" by {row['caller']}" if row.get("caller") else ""
        head = f"\n{row['decided_at']:%Y-%m-%d %H:%M:%S} UTC, request {row['request_id'] or '-'}{by}"
        console.print(Text(head, "bold"))
        if row["inputs"] is None:
            console.print(f"decision {row['decision_id']}: question and answer are erased")
        else:
            inputs = ", ".join(f"{name} {_word(value)}" for name, value in orjson.loads(row["inputs"]).items())
            console.print(Text(f"asked with: {inputs}"), soft_wrap=True)
            show_answer(orjson.loads(row["answer"]) | {"customer_id": customer or row["customer"]}, console)
        for outcome in told[row["decision_id"]].to_dict("records") if row["decision_id"] in told else ():
            about = outcome["offer_id"] or row["offer_id"] or "no offer"
            console.print(f"{outcome['observed_at']:%Y-%m-%d %H:%M} UTC: {outcome['kind']}, {about}")


@app.command()
def redo(
    decision: DecisionArgument = "",
    since: SinceOption = "",
    until: UntilOption = "",
    bundle: Annotated[
        str, typer.Option(help="Bundle that scores again, too; by default the policy decides from the logged scores.")
    ] = "",
    tables: TablesOption = "",
) -> None:
    """Make decisions again and compare them to the byte. Exit code 3: one came out otherwise."""
    import pyarrow as pa
    from pyarrow import compute as pc

    from offers.bundle.location import is_of_market, open_bundle
    from offers.decisions import history, reproduction
    from offers.decisions.period import Period
    from offers.retrieval import bundle as market_bundle

    log, settings = _log(tables)
    if decision:
        table = _found(log, settings, decision, "", "")
    else:
        period = Period.parse(since, until, "")
        table = history.read(log, period.since, period.until)
    market = market_bundle.open_bundle(bundle, settings) if bundle and is_of_market(bundle, settings) else None
    judge = open_bundle(bundle, settings) if bundle and market is None else None
    name, score = (judge.name, judge.model.propensity) if judge else ("", None)
    texts = history.market_texts(log)
    of_markets = pc.is_in(table["catalogue"], pa.array(list(texts), pa.string()))
    redone = reproduction.redo(table.filter(pc.invert(of_markets)), history.kept(log), name, score)
    redone = _with_markets(redone, table.filter(of_markets), texts, market)
    typer.echo(f"{counted(redone.decisions, 'decision')} made again, {len(redone.differing)} came out otherwise")
    if redone.erased:
        typer.echo(f"{redone.erased} are erased and can't be made again")
    if name := redone.bundle:
        exactness = "to the last bit" if not redone.rescored else f"{redone.rescored} of them not to the last bit"
        pairs = counted(redone.scored, "pair")
        typer.echo(f"{pairs} scored again by {name}, {exactness}; farthest apart {redone.farthest:.2g}")
    for name in redone.differing[:20]:
        typer.echo(f"otherwise: {name}")
    if not redone.holds:
        raise typer.Exit(3)


def _with_markets(
    redone: "Reproduction", table: "pa.Table", texts: Mapping[str, tuple[str, str]], bundle: "MarketBundle | None"
) -> "Reproduction":
    """Make the decisions of markets again, too, and score those of a bundle again."""
    from dataclasses import replace

    from offers.retrieval import reproduction as of_markets

    whole = table.filter(table["inputs"].is_valid())
    policies = {name: of_markets.policy_of(*texts[name]) for name in set(whole["catalogue"].to_pylist())}
    rows = whole.to_pylist()
    differing = of_markets.redo(rows, policies)
    if bundle is not None:
        distance = of_markets.rescore(rows, policies, bundle)
        scored, rescored = len(distance), int((distance > 0).sum())
        farthest = float(distance.max(initial=0))
        redone = replace(redone, bundle=bundle.name, scored=scored, rescored=rescored, farthest=farthest)
    return replace(
        redone,
        decisions=redone.decisions + len(whole),
        erased=redone.erased + len(table) - len(whole),
        differing=(*redone.differing, *differing),
    )


@app.command()
def erase(
    customer: CustomerOption,
    reason: Annotated[str, typer.Option(help="Why; it is kept, so it should not name the customer.")],
    tables: TablesOption = "",
    key: KeyOption = "",
    spool: Annotated[
        str, typer.Option(help="Spool whose decisions must reach the tables first; that of 'offers serve' by default.")
    ] = "",
) -> None:
    """Delete what the log knows of a customer; what was offered and how it went stays, and tells of nobody."""
    log, settings = _log(tables)
    erase_customer(customer, reason, log, settings, key, spool)


def erase_customer(
    customer: str, reason: str, log: "DeltaTables", settings: "Settings", key: str = "", spool: str = ""
) -> None:
    """Erase a customer from the log, and write into the ledger of the settings that it was done."""
    from offers.decisions import erasure
    from offers.decisions.pseudonym import Pseudonyms
    from offers.governance.access import open_to_write
    from offers.governance.entries import CustomerErased

    pseudonym = Pseudonyms.read(Path(key or settings.home / "pseudonym.key")).of(customer)
    _await_shipping(Path(spool or settings.home / "serve" / "spool"), log)
    ledger, signer = open_to_write(settings)
    count = erasure.erase(log, pseudonym, reason)
    typer.echo(f"{counted(count, 'decision')}: question, answer and pseudonym are erased")
    act = CustomerErased(decisions=count, log=str(log.root), reason=reason)
    entry = ledger.write(signer, lambda state: act)
    assert entry is not None
    typer.echo(f"entry {entry.number}: {signer.name}: {act.kind}")


@app.command()
def verify(tables: TablesOption = "") -> None:
    """Hold every decision of the log against its digest. Exit code 3: something was altered or is missing."""
    from offers.decisions import erasure

    problems = erasure.verify(_log(tables)[0])
    decisions, segments = counted(problems.decisions, "decision"), counted(problems.segments, "segment")
    typer.echo(f"{decisions} in {segments}, {problems.erased} of them erased")
    for fault in problems.faults:
        typer.echo(fault)
    if problems.faults:
        raise typer.Exit(3)
    typer.echo("every one is as it was written")


@app.command()
def tidy(
    keep: Annotated[
        int | None, typer.Option(help="Days that decisions and outcomes are kept; without it all of them.")
    ] = None,
    tables: TablesOption = "",
) -> None:
    """Join the log's small files, remove files of old versions, delete what is too old; to be run each day."""
    from offers.decisions import upkeep

    log, _ = _log(tables)
    for change in upkeep.tidy(log, keep):
        line = f"{change.table}: {counted(change.files_before, 'file')} before, {change.files_after} now"
        typer.echo(f"{line}; {counted(change.deleted, 'row')} too old" if keep is not None else line)


def _log(tables: str) -> "tuple[DeltaTables, Settings]":
    from offers.settings import Settings
    from offers.store.delta import DeltaTables

    settings = Settings.from_env()
    return DeltaTables.at(tables or str(settings.home / "tables"), settings), settings


def _found(log: "DeltaTables", settings: "Settings", decision: str, customer: str, key: str) -> "pa.Table":
    from offers.decisions import history
    from offers.decisions.pseudonym import Pseudonyms
    from offers.errors import DataError

    if bool(decision) == bool(customer):
        raise DataError("expected the id of a decision, or --customer; got both or neither")
    if decision:
        where, sentence = history.of_decision(decision), f"decision {decision!r:.80}"
    else:
        pseudonym = Pseudonyms.read(Path(key or settings.home / "pseudonym.key")).of(customer)
        where, sentence = history.of_customer(pseudonym), "a decision about this customer, by this key"
    table = history.read(log, where=where)
    if not len(table):
        raise DataError(
            f"{log.root}: expected {sentence}, found none; what was decided seconds ago may not be shipped yet"
        )
    return table


def _await_shipping(spool: Path, log: "DeltaTables") -> None:
    """Wait until the running shipper has shipped everything in the spool, or ship it here if none runs."""
    from offers.decisions.segment import adopt
    from offers.decisions.shipping import ship
    from offers.errors import DataError, StorageError

    if not spool.is_dir():
        return
    lock = os.open(spool / "shipper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        adopt(spool)
        for shipped in ship(spool, log):
            if shipped.refusal:
                raise StorageError(shipped.refusal)
    except BlockingIOError:
        before, deadline = {path.stem for path in spool.glob("*-*")}, time.monotonic() + SHIPPING_SECONDS
        while before & {path.stem for path in spool.glob("*-*")}:
            if time.monotonic() > deadline:
                raise DataError(f"{spool}: expected the shipper to take what waits there; see its log") from None
            time.sleep(0.5)
    finally:
        os.close(lock)


def _word(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
