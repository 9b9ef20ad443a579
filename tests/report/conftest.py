"""A browser, where the machine has one."""

import shutil

import pytest
from helpers.browser import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    """The program's path."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    return found


@pytest.fixture(scope="session")
def chromium(browser, tmp_path_factory):
    """A running one, for all tests of a process."""
    running = Browser(browser, tmp_path_factory.mktemp("browser"))
    yield running
    running.close()
