"""The cluster of the kubeconfig, for tests that were asked for by name: they change what it serves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from offers.errors import ServiceError
from tests.e2e.cluster import Cluster, answering, connected

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster, or every test is skipped."""
    if not asked_for(request.config.invocation_params):
        pytest.skip("the loop is NOT tested on a cluster, as that changes what it serves; 'make e2e' does it")
    try:
        api = answering()
    except ServiceError as error:
        pytest.skip(f"the loop is NOT tested on a cluster: {error}")
    with connected(api, tmp_path_factory.mktemp("e2e")) as found:
        yield found


def asked_for(call: pytest.Config.InvocationParams) -> bool:
    """Whether the command line names a file or directory of this one."""
    named = [(call.dir / str(argument).partition("::")[0]).resolve() for argument in call.args]
    return any(path.is_relative_to(HERE) for path in named)
