"""The page of a scored table: its volumes, and the propensities of first offers beside the bundle's reference."""

from offers.batch.volumes import Volumes
from offers.reports.tables import MOVED, SHIFTED, Cell, Table, count, figure, percent
from offers.reports.training import HTML


def scoring_page(volumes: Volumes, title: str) -> str:
    """Write the summary of a scored table as one HTML page that loads nothing."""
    return HTML.get_template("scoring.html").render(
        volumes=volumes,
        title=title,
        reading=_reading(volumes),
        offers=_offers(volumes),
        bins=_bins(volumes),
    )


def _reading(volumes: Volumes) -> str:
    if volumes.psi is None or volumes.noise is None:
        return "There is nothing to compare: nobody gets an offer."
    words = f"PSI {volumes.psi:.3f}, of which chance alone makes {volumes.noise:.3f} in 1 of 100"
    if volumes.psi < max(MOVED, volumes.noise):
        return f"These customers score as the reference does: {words}."
    return f"These customers score {'quite ' if volumes.psi >= SHIFTED else ''}otherwise than the reference: {words}."


def _offers(volumes: Volumes) -> Table:
    head = "Offer", "Get it first", "Share", "Of the reference", "Get it at all", "Mean propensity", "Mean score"
    rows = []
    for offer in sorted(volumes.offers, key=lambda one: -one.first):
        share = offer.first / max(1, volumes.answered)
        cells = (
            Cell(count(offer.first)),
            Cell(percent(share), shade=share),
            Cell(percent(offer.reference), shade=offer.reference),
            Cell(count(offer.answers)),
            Cell(figure(offer.propensity)),
            Cell(figure(offer.score, 2)),
        )
        rows.append((Cell(offer.offer), *cells))
    notes = {"Mean score": "EUR"}
    marks = {"Share": "bar", "Of the reference": "bar"}
    return Table(tuple(Cell(name, notes.get(name, ""), marks.get(name, "")) for name in head), tuple(rows))


def _bins(volumes: Volumes) -> Table:
    head = Cell("Propensity of the first offer"), Cell("Customers"), Cell("Share", mark="bar")
    ends = [f"up to {edge:.4f}" for edge in volumes.edges] + [f"above {edge:.4f}" for edge in volumes.edges[-1:]]
    rows = []
    for name, now, before in zip(ends or ["all"], volumes.bins, volumes.reference_bins, strict=True):
        shares = now / max(1, sum(volumes.bins)), before / max(1, sum(volumes.reference_bins))
        rows.append((Cell(name), Cell(count(now)), *(Cell(percent(share), shade=share) for share in shares)))
    return Table((*head, Cell("Of the reference", mark="bar")), tuple(rows))
