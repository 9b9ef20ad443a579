"""Checkpoints that are damaged, or another run's: never restored, told apart from whole ones."""

import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from wsol_jax.base.errors import UserError
from wsol_jax.runs import workdirs
from wsol_jax.runs.checkpoint import Checkpoints
from wsol_jax.runs.state import TrainState


def config_of(**fields):
    config = ml_collections.ConfigDict(
        {"seed": 0, "stages": (), "stage": {}, "free": (), "eval": {}, "data": {}, "model": {}}
    )
    config.train = {"keep": 5, "checksum": True}
    config.update(fields)
    return config


def state_of(step, value=1.0):
    params = {"w": jnp.full((40, 30), float(value)) * jnp.arange(30.0), "b": jnp.zeros(7)}
    return TrainState(
        jnp.asarray(step, jnp.int32), params, {}, optax.EmptyState(), jax.random.key(step)
    )


@pytest.fixture
def saved(tmp_path):
    """A run of seed 0 with checkpoints of steps 1 and 2."""
    config = config_of()
    workdirs.write(tmp_path, config, ("a",))
    checkpoints = Checkpoints(tmp_path, config)
    for step in (1, 2):
        checkpoints.save(step, state_of(step, step), {"step": step})
    checkpoints.close()
    return tmp_path


def restore(workdir, step, config=None):
    checkpoints = Checkpoints(workdir, config or config_of(), read_only=True)
    try:
        return checkpoints.restore(step, state_of(0))
    finally:
        checkpoints.close()


def arrays_files(workdir, step):
    folder = workdir / "checkpoints" / str(step) / "state"
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def test_a_whole_one_comes_back_bit_for_bit(saved):
    state, data = restore(saved, 2)
    np.testing.assert_array_equal(state.params["w"], state_of(2, 2).params["w"])
    assert data["step"] == 2


def test_any_flipped_byte_is_noticed_or_harmless(saved):
    """Of the checkpoint's every file; what is restored all the same has the same bits."""
    whole, _ = restore(saved, 2)
    noticed = 0
    for path in arrays_files(saved, 2):
        content = path.read_bytes()
        for at in {0, len(content) // 3, len(content) // 2, len(content) - 1}:
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
            try:
                state, _ = restore(saved, 2)
            except UserError as error:
                noticed += 1
                assert f"{saved}/checkpoints/2 is damaged" in str(error)
                assert "Step 1 is whole" in str(error)
            else:
                for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(whole), strict=True):
                    if not jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
                        np.testing.assert_array_equal(one, other)
        path.write_bytes(content)
    assert noticed > 3


@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_every_file_cut_or_gone(saved, damage):
    noticed = 0
    for path in arrays_files(saved, 2):
        content = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
        try:
            restore(saved, 2)
        except UserError as error:
            noticed += 1
            assert "Step 1 is whole: remove" in str(error)
        path.write_bytes(content)
    assert noticed


def test_changed_arrays_are_noticed_by_their_hash(saved):
    """A checkpoint that Orbax finds whole, but with other numbers."""
    other = config_of()
    checkpoints = Checkpoints(saved, other)
    checkpoints.save(3, state_of(3, 3.0), {"step": 3})
    checkpoints.close()
    data = saved / "checkpoints/3/data/metadata"
    content = json.loads(data.read_text())
    content["sha256"] = "0" * 64
    data.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"are not those that were saved\. Step 2 is whole"):
        restore(saved, 3)
    unchecked = config_of(train={"keep": 5, "checksum": False})
    state, _ = restore(saved, 3, unchecked)
    np.testing.assert_array_equal(state.params["w"], state_of(3, 3.0).params["w"])


def test_no_step_is_whole(saved):
    for step in (1, 2):
        for path in arrays_files(saved, step):
            path.write_bytes(b"")
    with pytest.raises(UserError, match="No other step is whole"):
        restore(saved, 2)


def test_another_runs_checkpoint_is_refused(saved):
    with pytest.raises(UserError, match=r"saved by a run with another seed than .*config\.json"):
        restore(saved, 2, config_of(seed=1))


def test_one_of_earlier_days_has_neither_hash_nor_config(saved):
    data = saved / "checkpoints/2/data/metadata"
    data.write_text(json.dumps({"step": 2}))
    assert restore(saved, 2, config_of(seed=1))[1] == {"step": 2}


def test_a_folder_that_was_removed_stops_the_run(saved):
    checkpoints = Checkpoints(saved, config_of())
    (saved / "config.json").unlink()
    with pytest.raises(UserError, match="was removed while the run wrote"):
        checkpoints.save(3, state_of(3), {"step": 3})
    checkpoints.close()
