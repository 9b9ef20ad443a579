"""What XLA made of a program is kept, found again, and made anew where it was damaged."""

import contextlib
import gzip

import jax
import jax.numpy as jnp
import pytest

from wsol_jax.stages.ahead import kept
from wsol_jax.stages.ahead.topology import parse


@pytest.fixture
def traced(monkeypatch, tmp_path):
    """Programs by their factor, to be compiled for this machine in the place of another."""
    monkeypatch.setenv("WSOL_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(kept, "compiler_version", lambda place: "1.2.3")
    function = lambda factor: jax.jit(lambda x: factor * x).trace(jnp.ones(4))
    return function


def test_a_program_is_compiled_once(traced, tmp_path, monkeypatch, capsys):
    place = parse("v5e:2x2")
    first = kept.compiled(traced(2), place)
    assert "ENTRY" in first["text"] and first["arguments"] >= 16
    (path,) = (tmp_path / "ahead").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(kept, "_compile", lambda *_: pytest.fail("compiled again"))
        assert kept.compiled(traced(2), place) == first
    kept.compiled(traced(3), place)
    kept.compiled(traced(2), parse("v6e:2x2"))
    assert len(list((tmp_path / "ahead").iterdir())) == 3
    whole = path.read_bytes()
    for damaged in (whole[:50], b"", gzip.compress(b"[")):
        path.write_bytes(damaged)
        again = kept.compiled(traced(2), place)
        assert again["arguments"] == first["arguments"] and "ENTRY" in again["text"]
        assert kept.compiled(traced(2), place) == again
    assert "v5e:2x2: compiling" in capsys.readouterr().err


def test_more_memory_than_there_is_is_kept_too(traced, monkeypatch):
    class Lowered:
        def compile(self, compiler_options):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Used 19.5G of 15.7G hbm.")

    monkeypatch.setattr(kept, "compiling", lambda name: contextlib.nullcontext())
    assert kept._compile(Lowered(), parse("v5e:2x2")) == {
        "error": "RESOURCE_EXHAUSTED: Used 19.5G of 15.7G hbm."
    }
