"""The evidence about a candidate policy from the decision log, in sentences."""

from collections.abc import Iterator

import numpy as np

from offers.experiments import off_policy
from offers.experiments.evidence import Evidence
from offers.experiments.off_policy import Difference
from offers.wording import counted

_VERDICTS = {
    "better": "the candidate earns more",
    "worse": "the candidate earns less",
    "open": "the log does not tell them apart",
}


def told(proof: Evidence, days: int) -> Iterator[str]:
    """Yield the evidence about the candidate, line by line."""
    verdict = proof.verdict
    decisions, customers = counted(verdict.n_decisions, "decision"), counted(verdict.n_customers, "customer")
    yield f"{decisions} about {customers} earned {verdict.earned:.2f} EUR each"
    if proof.share < 1:
        yield f"a sample: decisions about {proof.share:.3%} of the customers, chosen by their pseudonyms"
    counts = {
        "without the predictor": proof.fallback,
        "erased": proof.erased,
        "not ripe": proof.unripe,
        "not presented": proof.unseen,
        "impossible by their own probabilities": proof.impossible,
    }
    if any(counts.values()):
        yield "left out: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    if not proof.labels.impressions:
        yield "nobody told what was presented: each first place counts as presented"
    yield f"candidate and log agree on {verdict.agreement:.1%} of the choices"
    low, high = verdict.bounds
    yield f"whatever customers would have done, the difference is from {low:+.2f} to {high:+.2f} EUR per decision"
    if not verdict.differences:
        yield from _unexplored(proof, days)
        return
    yield "method        EUR per decision more than the log, with its 95 % interval"
    for method, difference in verdict.differences.items():
        yield f"{method:<12}{_interval(difference)}"
    yield f"effective sample {verdict.effective:.0f}, largest weight {verdict.largest_weight:.1f}"
    yield f"without support {verdict.unsupported:.1%}; exploration costs {verdict.price:.2f} EUR per decision"
    for warning in verdict.warnings:
        yield f"warning: {warning}"
    best = verdict.differences["switch_dr" if verdict.warnings else "dr"]
    yield f"verdict: {_VERDICTS[best.verdict]}"
    yield from _by_place(proof)


def _by_place(proof: Evidence) -> Iterator[str]:
    verdict = proof.by_place
    if isinstance(verdict, str):
        yield f"no table by place: {verdict}"
        return
    yield "place         EUR per decision more than the log, with its 95 % interval"
    for place in verdict.places:
        if place.difference is None:
            yield f"{place.place:<12} refused: {place.refusal}, and no model speaks for them"
        else:
            figures = f"effective sample {place.effective:.0f}, without support {place.unsupported:.1%}"
            yield f"{place.place:<12}{_interval(place.difference)}  {figures}"
    if verdict.total is not None:
        yield f"{'all':<12}{_interval(verdict.total)}"


def _interval(difference: Difference) -> str:
    return f"{difference.value:+8.3f}  [{difference.low:+.3f}, {difference.high:+.3f}]"


def _unexplored(proof: Evidence, days: int) -> Iterator[str]:
    gain = off_policy.difference(proof.logged, "dm").value
    yield f"nothing was explored, so there is no estimate; the model alone expects {gain:+.2f} EUR per decision"
    span = max(proof.days, 1.0)
    per_day = len(proof.logged.action) / span
    if not np.isclose(gain, 0):
        decisions = round(per_day * days)
        answer = off_policy.smallest_exploration(proof.logged, proof.lowest, proof.highest, gain, decisions)
        yield (
            f"'exploration: {{kind: epsilon, epsilon: {answer[0]:.3g}}}' would answer in {days} days at {per_day:.0f}"
            f" decisions a day, and costs {answer[1]:.2f} EUR per decision"
            if answer
            else f"no exploration would answer in {days} days at {per_day:.0f} decisions a day"
        )
