"""Experiments in the recommender: some users are answered by other arms than what serves."""

from collections.abc import Mapping, Sequence

from offers.data.online_reading import OnlineRows
from offers.decisions.pseudonym import Pseudonyms
from offers.experiments.experiment import OUTSIDE, Experiment
from offers.retrieval.arbitration import Recommended
from serving.process.telemetry import ARM_ROWS, SHADOW_ROWS
from serving.ranker.decision_log import Membership
from serving.recommender.served import Served


class Arms:
    """The arms of the experiments in force, beside what serves.

    Parameters
    ----------
    served : what answers for each arm that is not the control
    """

    def __init__(
        self, experiments: Sequence[Experiment], served: Mapping[Membership, Served], pseudonyms: Pseudonyms
    ) -> None:
        self._experiments, self._served, self._pseudonyms = experiments, served, pseudonyms
        for membership in served:
            ARM_ROWS.labels(*membership)

    def of(self, user_id: str) -> tuple[Membership | None, Served | None]:
        """Find a user's arm, and what answers there; None stands for a user in no experiment, and for what serves."""
        pseudonym = [self._pseudonyms.of(user_id)]
        for experiment in self._experiments:
            place = int(experiment.assign(pseudonym)[0])
            if place != OUTSIDE:
                membership = Membership(experiment.name, experiment.arm_name(place))
                ARM_ROWS.labels(*membership).inc()
                return membership, self._served.get(membership)
        return None, None

    def shadow(self, user_id: str, rows: OnlineRows, k: int, key: str, first: str | None) -> None:
        """Ask the shadows of a user, when the answer has been decided, and count those that put the same first."""
        pseudonym = [self._pseudonyms.of(user_id)]
        for experiment in self._experiments:
            for name, users in experiment.shadowed(pseudonym).items():
                if len(users):
                    membership = Membership(experiment.name, name)
                    one = self._served[membership]
                    theirs = first_of(one, one.recommender.recommend(one.bundle.rows(rows)[0], k, one.available(), key))
                    SHADOW_ROWS.labels(*membership, "same" if theirs == first else "other").inc()


def first_of(served: Served, recommended: Recommended) -> str | None:
    """Name the product in first place; None where nothing is recommended."""
    if not recommended.offers:
        return None
    return served.bundle.product_ids[int(recommended.candidates[recommended.offers[0]])]
