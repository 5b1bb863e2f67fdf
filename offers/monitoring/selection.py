"""Finds which rows of a bundle's reference the catalogue's rules let pass, from the scored rows of a period."""

from pyarrow import ArrowException, BufferReader, dataset, parquet

from offers.bundle.bundle import Bundle
from offers.decisions.period import Period
from offers.drift.selection import KEY
from offers.policy.arbitration import Policy
from offers.policy.selection import selection
from offers.settings import Settings
from offers.store.delta import DeltaTables
from offers.store.store import open_store


def selection_of(where: str, bundle: Bundle, period: Period, settings: Settings) -> str:
    """Find the selection that applied when the bundle scored its newest row, encoded by `offers.drift.selection`.

    Parameters
    ----------
    where : as of `offers.decisions.scored.read_scored`, which reports its errors

    Returns
    -------
    str
        empty, which means all rows, where no catalogue is recorded
    """
    from offers.decisions import tabled

    if log := tabled.log_at(where, settings):
        return _by_catalogue(log, bundle, period)
    store = open_store(where, settings)
    for key in sorted((key for key in store.keys("") if key.endswith(".parquet")), reverse=True):
        try:
            with parquet.ParquetFile(BufferReader(store.read_bytes(key))) as file:
                metadata = file.schema_arrow.metadata or {}
                if file.read(columns=["bundle"])["bundle"][0].as_py() == bundle.name:
                    return str(metadata.get(KEY.encode(), b""), "ascii")
        except (ArrowException, IndexError, KeyError, ValueError):
            continue
    return ""


def _by_catalogue(log: DeltaTables, bundle: Bundle, period: Period) -> str:
    from offers.decisions import history

    columns, of_bundle = ["decided_at", "decision_id", "catalogue"], dataset.field("model") == bundle.name
    names = history.read(log, period.since, period.until, columns, of_bundle)["catalogue"].to_pylist()
    if not names:
        return ""
    record = history.kept(log)[names[-1]]
    return selection(Policy(record.catalogue, record.contract), bundle.name, bundle.path / "reference.parquet").word
