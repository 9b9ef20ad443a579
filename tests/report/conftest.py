"""A browser, where the machine has one."""

import shutil

import pytest
from helpers.browser import Browser, Tab

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
    """A running one, for all tests of a process; skips them where it shows no page at all."""
    running = Browser(browser, tmp_path_factory.mktemp("browser"))
    blank = tmp_path_factory.mktemp("page") / "blank.html"
    blank.write_text("<title>blank</title>")
    try:
        with Tab(running, blank) as tab:
            assert tab.ask("document.title") == "blank"
    except AssertionError as error:
        running.close()
        pytest.skip(f"the browser here shows no page: {error}")
    yield running
    running.close()
