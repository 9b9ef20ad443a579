"""A training that goes on from an earlier one's network: ``start``."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from helpers import rounds
from helpers.fake_stages import Fake

from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.runs.plan import Plan, create_state
from wsol_jax.stages import recipe as stages


def config_of(**changes):
    """Two trainings of one network, without labels; the second goes on from the first."""
    config = rounds.get_config(f"folder,root={tiny.data()},size=32,batch=6,epochs=4")
    with config.unlocked():
        config.stages = ("one", "two", "evaluate")
        for name in ("one", "two"):
            config.stage[name].labels = ""
        config.stage.two.start = "one"
        config.update_from_flattened_dict(changes)
    return config


@pytest.fixture
def fake(monkeypatch):
    found = Fake(monkeypatch)
    found.values = {"one": 5.0, "two": 7.0}
    return found


def test_the_second_training_is_given_the_firsts_network(fake, tmp_path):
    """Its own inputs say so; it is no constant beside it."""
    stages.run(config_of(), tmp_path)
    assert fake.trained == [("one", {}), ("two", {})] and fake.started == {"two": 5.0}
    inputs = json.loads((tmp_path / "two" / "inputs.json").read_text())
    assert inputs == {"one": stages.fingerprint({"params": np.float32(5)})}
    assert not (tmp_path / "one" / "inputs.json").exists() or not json.loads(
        (tmp_path / "one" / "inputs.json").read_text()
    )
    assert fake.scored == [{"params": 7.0}]
    stages.run(config_of(), tmp_path)
    assert len(fake.trained) == 2


def test_without_a_start_there_is_none(fake, tmp_path):
    stages.run(config_of(**{"stage.two.start": ""}), tmp_path)
    assert fake.trained == [("one", {}), ("two", {})] and not fake.started


@pytest.mark.parametrize("only", [["two"], ["evaluate"]])
def test_another_network_to_start_from_is_noticed(fake, tmp_path, only):
    stages.run(config_of(), tmp_path)
    shutil.rmtree(tmp_path / "one")
    fake.values["one"] = 5.5
    stages.run(config_of(), tmp_path, ["one"])
    with pytest.raises(UserError) as error:
        stages.run(config_of(), tmp_path, only)
    assert "stage 'two' was trained with another network of stage 'one' than" in str(error.value)
    shutil.rmtree(tmp_path / "two")  # what the sentence advises
    stages.run(config_of(), tmp_path)
    assert fake.started == {"two": 5.5}


def test_a_start_that_was_another_is_refused(fake, tmp_path):
    """A begun stage holds the run to its config: with a start, or without one."""
    stages.run(config_of(), tmp_path)
    with pytest.raises(UserError, match="start"):
        stages.run(config_of(**{"stage.two.start": ""}), tmp_path)
    assert len(fake.trained) == 2


def test_an_unfinished_start_is_not_read(fake, tmp_path):
    with pytest.raises(UserError, match=r"stage 'one' is not done .*--stages=one"):
        stages.run(config_of(), tmp_path, ["two"])
    assert not fake.trained


@pytest.mark.parametrize("start", ["two", "nonsense", "evaluate", "label_one"])
def test_only_an_earlier_training_can_be_gone_on_from(fake, tmp_path, start):
    with pytest.raises(UserError) as error:
        stages.run(config_of(**{"stage.two.start": start}), tmp_path)
    assert str(error.value) == f"stage.two.start: {start!r} is no training before it: one."
    assert not fake.trained and not list(tmp_path.iterdir())


def test_a_network_of_other_shapes_is_refused_before_any_training(fake, tmp_path, monkeypatch):
    build = methods.build

    def other(config, classes):
        return build(config, classes + 1) if config.start else build(config, classes)

    monkeypatch.setattr(methods, "build", other)
    with pytest.raises(UserError) as error:
        stages.run(config_of(seed=11), tmp_path)  # no other test's: shapes are kept by config
    assert str(error.value) == (
        "stage.two.start: the network of 'one' has other shapes than this stage's: both need the "
        "same method and model section."
    )
    assert not fake.trained and not list(tmp_path.iterdir())


def test_the_first_state_holds_the_given_network():
    """Bit by bit, and copied: the step consumes its state's buffers."""
    config = stages.stage_config(config_of(), "two")
    method = methods.build(config, 3)
    given = method.init(jax.random.key(9), jnp.zeros((1, 32, 32, 3), jnp.uint8))
    plan = Plan(16, 6, 6, 11, 0, 3)
    fresh, _, _ = create_state(config, method, plan, None)
    state, _, _ = create_state(config, method, plan, None, start=given)
    leaves = lambda tree: jax.tree.leaves(tree)
    for kept, own, first in zip(
        leaves(state.params), leaves(given["params"]), leaves(fresh.params), strict=True
    ):
        np.testing.assert_array_equal(kept, own)
        assert kept is not own and (np.ndim(own) == 1 or np.any(kept != first))
    assert state.step == 0
    for one, other in zip(leaves(state.opt_state), leaves(fresh.opt_state), strict=True):
        np.testing.assert_array_equal(one, other)  # the solver begins anew
    wrong = jax.tree.map(lambda x: x[..., :-1], given)
    with pytest.raises(UserError, match=r"the network of stage 'one' has .* of shape"):
        create_state(config, method, plan, None, start=wrong)


def test_one_module_alone_may_be_taken():
    """The rest begins as it would have."""
    config = stages.stage_config(config_of(**{"stage.two.start": "one/Conv_0"}), "two")
    method = methods.build(config, 3)
    given = method.init(jax.random.key(9), jnp.zeros((1, 32, 32, 3), jnp.uint8))
    plan = Plan(16, 6, 6, 11, 0, 3)
    fresh, _, _ = create_state(config, method, plan, None)
    part = stages.only_module(given, "Conv_0")
    assert part.keys() == {"params"} and part["params"].keys() == {"Conv_0"}
    state, _, _ = create_state(config, method, plan, None, start=part)
    for name, expected in (("Conv_0", given["params"]), ("Conv_1", fresh.params)):
        for leaf, value in expected[name].items():
            np.testing.assert_array_equal(state.params[name][leaf], value)


def test_a_module_that_the_earlier_network_lacks_is_refused(fake, tmp_path):
    with pytest.raises(UserError) as error:
        stages.run(config_of(**{"stage.two.start": "one/trunk"}), tmp_path)
    sentence = "stage.two.start: the network of 'one' has no module called 'trunk'."
    assert str(error.value) == sentence and not fake.trained


@pytest.mark.slow
def test_a_training_that_learns_nothing_ends_as_the_one_it_began_from(tmp_path):
    """A whole run: at a rate of 0 the second network is the first."""
    changes = {"train.eval_epochs": 0.0, "stage.two.optimizer.head_lr": 0.0, "eval.gallery": 2}
    config = config_of(**changes)
    stages.run(config, tmp_path)
    one, two = (tiny.arrays(tmp_path / name, 11) for name in ("one", "two"))
    params = [name for name in one if name.startswith("['params']")]
    assert len(params) == 4
    for name in params:
        np.testing.assert_array_equal(two[name], one[name])
    inputs = json.loads((tmp_path / "two" / "inputs.json").read_text())
    assert set(inputs) == {"one"}
