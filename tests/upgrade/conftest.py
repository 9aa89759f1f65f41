from collections.abc import Iterator

import pytest
from owned_runs import Owner


@pytest.fixture(scope="session")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """Give a recorded case, by its id, in a folder of its own."""
    owner = Owner(tmp_path_factory.mktemp("owned"))
    yield owner
    owner.close()
