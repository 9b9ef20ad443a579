"""What the user called a place: names that only begin as it does are left alone."""

import pytest

from wsol_jax.base import typed


@pytest.fixture
def place(monkeypatch):
    monkeypatch.setattr(typed, "_typed", {"/cache/room/run": "gs://b/run"})
    return "/cache/room/run"


@pytest.mark.parametrize("rest", ["", "/config.json", ".", ": no run", "'", ", and"])
def test_the_place_and_what_is_in_it(place, rest):
    assert typed.as_typed(f"in {place}{rest}") == f"in gs://b/run{rest}"


@pytest.mark.parametrize("rest", ["2", "-old/a", "_old", ".aside"])
def test_another_place_beside_it(place, rest):
    assert typed.as_typed(f"in {place}{rest}") == f"in {place}{rest}"
