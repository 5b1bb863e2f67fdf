"""The whole loop on a cluster: train, deploy, answer, see the world change, train again, go back."""

import time

import pytest

from tests.e2e import steps
from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def trained(cluster: Cluster, seed: int) -> str:
    """Submit a run and wait for its end; gives the name of the bundle that it has published."""
    before = steps.bundles(cluster.bundles)
    steps.await_run(cluster.kubeflow, steps.submit(cluster, seed), steps.RUN)
    return steps.await_bundle(cluster.bundles, before, steps.ANSWER)


@pytest.fixture(scope="module")
def bundles(cluster: Cluster) -> tuple[str, str]:
    """Two bundles, each trained and deployed by a run of the pipeline; the second one is served."""
    # Seeds of their own: what Kubeflow has cached of an earlier day's run deploys nothing.
    seed = int(time.time())
    return trained(cluster, seed), trained(cluster, seed + 1)


def test_a_run_publishes_its_bundle_and_serves_it(cluster: Cluster, bundles: tuple[str, str]) -> None:
    steps.check_served(cluster, bundles[1])


def test_changed_customers_start_a_retraining(cluster: Cluster, bundles: tuple[str, str]) -> None:
    kubeflow = cluster.kubeflow
    served = cluster.release(steps.uri_of(cluster.service.read())).bundle
    before = {run.id for run in kubeflow.runs(50)}
    alarm = steps.raise_alarm(cluster, served)
    run = steps.await_retraining(cluster, before, steps.START)
    steps.stop(kubeflow, run, steps.START)
    assert alarm["bundle"] == served.name


def test_a_rollback_brings_the_bundle_before_back(cluster: Cluster, bundles: tuple[str, str]) -> None:
    steps.roll_back(cluster)
    steps.check_served(cluster, bundles[0])
