"""One kit and one server a session."""

import pytest

from faults import kit as kits


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    with kits.opened(tmp_path_factory.mktemp("kit")) as kit:
        yield kit


@pytest.fixture
def here(tmp_path):
    """A row's own folder; its outputs lie beside it."""
    place = tmp_path / "here"
    place.mkdir()
    return place
