"""A release as a line of a list: status, catalogue, who approved it, and until when."""

from datetime import datetime

from offers.governance.state import Release, State

HEAD = ("release", "status", "catalogue", "made", "approved by", "until")


def row(state: State, release: Release, moment: datetime) -> tuple[str, ...]:
    """Write the cells of `HEAD` for a release, as they are at a moment."""
    names = dict.fromkeys(state.name_of(approval.key) for approval in release.approvals)
    challenger, lapses = state.challenger(release.act.contract), release.lapses(moment)
    suffix = ", challenger" if challenger is not None and challenger.name == release.name else ""
    by, until = ", ".join(names), f"{lapses:%Y-%m-%d}" if lapses else ""
    if not release.act.terms.people:
        by, until = "the gate", ""
    status, moment_text = state.status(release, moment) + suffix, f"{release.at:%Y-%m-%d %H:%M}"
    return release.name, status, release.act.catalogue, moment_text, by, until
