import pytest

from tests.support.containers import built, engine_answers


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    if not engine_answers():
        pytest.skip("no container engine answers 'docker info': the images are NOT tested; start one to test them")
    return built()
