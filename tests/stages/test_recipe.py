"""Recipes of stages: each stage's config, their order, and what one needs of those before."""

import dataclasses
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from helpers.fake_stages import Fake
from helpers.runs import LAST

from configs import cam as cam_config
from configs import two_phase as two_phase_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.runs import workdirs
from wsol_jax.stages import recipe as stages

# ---------------------------------------------------------------- configs and fingerprints


def config_of(words="", **changes):
    root = tiny.data()
    config = two_phase_config.get_config(
        f"folder,root={root},backbone=mobilenet_v2,weights=none,width=0.25,size=32,batch=6{words}"
    )
    with config.unlocked():
        config.model.freeze_until = ""
        config.update_from_flattened_dict(changes)
    return config


def test_a_stage_differs_from_the_run_only_where_it_says_so():
    changes = {
        "stage.second.train.epochs": 2.5,
        "stage.second.optimizer.head_lr": 0.5,
        "seed": 3,
        "two_phase.shares": (0.7, 0.3),
        "two_phase.hide_at": "block_3",
    }
    config = config_of(",phases=3", **changes)
    before = config.to_json()
    expected = workdirs._flat(config)
    for name, reads in (("first", ()), ("second", ("first",)), ("third", ("first", "second"))):
        own = workdirs._flat(stages.stage_config(config, name))
        different = {
            key: own.get(key)
            for key in own.keys() | expected.keys()
            if own.get(key) != expected.get(key) and not key.startswith("stage")
        }
        wanted = {"reads": reads, "two_phase.suppressors": reads}
        if not reads:  # it hides nothing
            wanted = {"two_phase.shares": (), "two_phase.hide_at": ""}
        if name == "second":
            wanted |= {"train.epochs": 2.5, "optimizer.head_lr": 0.5}
        assert {k: tuple(v) if isinstance(v, list) else v for k, v in different.items()} == wanted
        assert not own["stages"] and not [key for key in own if key.startswith("stage.")]
    assert config.to_json() == before, "the run's config has moved"


def test_a_stages_config_is_locked_and_saves(tmp_path):
    own = stages.stage_config(config_of(), "second")
    with pytest.raises(AttributeError):
        own.seeed = 1
    workdirs.write(tmp_path, own, ("a",))
    found, _ = workdirs.load(tmp_path)
    assert workdirs._flat(found) == workdirs._flat(own)


TREE = {"params": {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(3, np.float32)}}


def test_fingerprint_is_of_the_values_alone():
    print_of = stages.fingerprint(TREE)
    assert re.fullmatch("[0-9a-f]{64}", print_of)
    swapped = {"params": {"b": TREE["params"]["b"].copy(), "a": TREE["params"]["a"].copy()}}
    assert stages.fingerprint(swapped) == print_of
    assert stages.fingerprint(jax.tree.map(jnp.asarray, TREE)) == print_of
    columns = {"params": {**TREE["params"], "a": np.asfortranarray(TREE["params"]["a"])}}
    assert stages.fingerprint(columns) == print_of


@pytest.mark.parametrize("case", ["a bit", "a name", "a shape", "a type", "a sign", "one more"])
def test_fingerprint_tells_networks_apart(case):
    a, b = (x.copy() for x in TREE["params"].values())
    other = {"a": a, "b": b}
    if case == "a bit":
        a[1, 2] = np.nextafter(a[1, 2], np.float32(9))
    elif case == "a name":
        other = {"a": a, "c": b}
    elif case == "a shape":
        other["a"] = a.reshape(3, 2)
    elif case == "a type":
        other["b"] = b.astype(np.int32)  # the same bytes
    elif case == "a sign":
        b[0] = -0.0
    elif case == "one more":
        other["c"] = np.zeros(0, np.float32)
    assert stages.fingerprint({"params": other}) != stages.fingerprint(TREE)


# ---------------------------------------------------------------- the order of things
#
# The recipe's own logic, with trainings that only write what they would leave.


@pytest.fixture
def fake(monkeypatch):
    return Fake(monkeypatch)


def network(workdir, name):
    with np.load(workdir / name / "network.npz") as file:
        return float(file["params"])


def test_stages_run_in_order_each_on_the_ones_before(fake, tmp_path):
    config = config_of(",phases=3,epochs=4")
    figures = stages.run(config, tmp_path)
    assert fake.trained == [
        ("first", {}),
        ("second", {"first": 1}),
        ("third", {"first": 1, "second": 2}),
    ]
    assert fake.scored == [{"params": 3, "first": 1, "second": 2}]
    assert set(figures["stages"]) == {"first", "second", "third", "evaluate"}
    assert figures["steps"] == LAST
    stages.run(config, tmp_path)  # all of it is done
    assert len(fake.trained) == 3 and len(fake.scored) == 2


def test_a_part_of_the_stages(fake, tmp_path):
    config = config_of(",epochs=4")
    assert stages.run(config, tmp_path, ["first"]) == {}
    assert fake.trained == [("first", {})] and not fake.scored
    stages.run(config, tmp_path, ["evaluate", "second"])  # in the recipe's order all the same
    assert [name for name, _ in fake.trained] == ["first", "second"] and len(fake.scored) == 1


@pytest.mark.parametrize("only", [["second"], ["evaluate"], ["second", "evaluate"]])
def test_a_stage_before_what_it_reads_is_refused(fake, tmp_path, only):
    with pytest.raises(UserError) as error:
        stages.run(config_of(",epochs=4"), tmp_path, only)
    missing = "second" if only == ["evaluate"] else "first"
    assert f"stage '{missing}' is not done" in str(error.value)
    assert str(error.value).endswith(f"--stages={missing}")
    assert not fake.trained and not fake.scored


def test_an_unfinished_stage_is_not_read(fake, tmp_path):
    fake.steps = 4
    config = config_of(",epochs=4")
    stages.run(config, tmp_path, ["first"])
    with pytest.raises(UserError, match=r"stage 'first' is not done \(step 4 of 11 in .*first\)"):
        stages.run(config, tmp_path, ["second"])


@pytest.mark.parametrize("only", [["second"], ["evaluate"]])
def test_another_network_in_place_of_the_first_is_noticed(fake, tmp_path, only):
    config = config_of(",epochs=4")
    stages.run(config, tmp_path)
    shutil.rmtree(tmp_path / "first")
    fake.values["first"] = np.nextafter(np.float32(1), np.float32(2))  # a bit is enough
    stages.run(config, tmp_path, ["first"])
    trained, scored = len(fake.trained), len(fake.scored)
    with pytest.raises(UserError) as error:
        stages.run(config, tmp_path, only)
    assert "stage 'second' was trained with another network of stage 'first'" in str(error.value)
    assert f"remove {tmp_path / 'second'}" in str(error.value)
    assert (len(fake.trained), len(fake.scored)) == (trained, scored)
    # The advice helps.
    shutil.rmtree(tmp_path / "second")
    stages.run(config, tmp_path)
    assert fake.scored[-1]["first"] == network(tmp_path, "first")


def test_the_same_network_put_back_is_welcome(fake, tmp_path):
    config = config_of(",epochs=4")
    stages.run(config, tmp_path)
    shutil.rmtree(tmp_path / "first")
    stages.run(config, tmp_path)
    assert [name for name, _ in fake.trained] == ["first", "second", "first"]


@pytest.mark.parametrize("choices", [("latest", "best"), ("best", "latest")])
def test_another_checkpoint_may_be_scored_than_was_trained_on(fake, tmp_path, choices):
    """eval.checkpoint is free: the second keeps the network that it was trained with."""
    before, after = (config_of(",epochs=4", **{"eval.checkpoint": choice}) for choice in choices)
    stages.run(before, tmp_path)
    stages.run(after, tmp_path, ["evaluate"])
    one, other = fake.scored
    assert one["first"] == other["first"] == (1.0 if choices[0] == "latest" else 1.5)
    assert {one["params"], other["params"]} == {2.0, 2.5}
    stages.run(after, tmp_path)
    assert [name for name, _ in fake.trained] == ["first", "second"]


def test_a_third_stage_notices_another_second(fake, tmp_path):
    config = config_of(",phases=3,epochs=4")
    stages.run(config, tmp_path)
    shutil.rmtree(tmp_path / "second")
    fake.values["second"] = -5.0
    with pytest.raises(UserError, match=r"stage 'third' was trained with another .*'second'"):
        stages.run(config, tmp_path)


@pytest.mark.parametrize("damage", ["missing", "cut", "no object"])
def test_a_stage_without_a_record_of_its_inputs(fake, tmp_path, damage):
    config = config_of(",epochs=4")
    stages.run(config, tmp_path)
    record = tmp_path / "second" / "inputs.json"
    if damage == "missing":
        record.unlink()
    else:
        record.write_text({"cut": '{"first": "ab', "no object": "[]"}[damage])
    with pytest.raises(UserError, match=r"inputs\.json is (missing or )?damaged.* remove .*second"):
        stages.run(config, tmp_path)


def test_a_begun_stage_holds_the_run_to_its_config(fake, tmp_path):
    config = config_of(",epochs=4")
    stages.run(config, tmp_path, ["first"])
    saved_config = (tmp_path / "config.json").read_text()
    for changes in ({"seed": 1}, {"two_phase.head": "fcn"}, {"stage.first.train.epochs": 2.0}):
        with pytest.raises(UserError, match=next(iter(changes)).removeprefix("stage.first.")):
            stages.run(config_of(",epochs=4", **changes), tmp_path)
        assert (tmp_path / "config.json").read_text() == saved_config
    # What only the second reads is still free.
    stages.run(config_of(",epochs=4", **{"stage.second.optimizer.head_lr": 0.5}), tmp_path)
    assert [name for name, _ in fake.trained] == ["first", "second"]


def test_a_mistake_in_a_later_stage_is_told_before_the_first_trains(fake, tmp_path):
    changes = {"two_phase.voters": ("first", "third")}
    with pytest.raises(UserError, match=r"two_phase\.voters: 'third' is not trained in phase 2"):
        stages.run(config_of(",epochs=4", **changes), tmp_path)
    assert not fake.trained and not list(tmp_path.iterdir())


@pytest.fixture
def slow_start(monkeypatch):
    """Every method warms up for 5 steps."""
    build, warm_up = methods.build, methods.WarmUp(5, "toy.steps")
    slow = lambda *given: dataclasses.replace(build(*given), warm_up=warm_up)
    monkeypatch.setattr(methods, "build", slow)


def test_a_stage_that_only_warms_up_is_refused_before_the_first_trains(fake, slow_start, tmp_path):
    config = config_of(",epochs=4", **{"stage.second.train.epochs": 1.0})
    with pytest.raises(UserError, match=r"^stage\.second\.train\.epochs=1: .* 3 steps.*toy"):
        stages.run(config, tmp_path)
    assert not fake.trained and not list(tmp_path.iterdir())
    stages.run(config_of(",epochs=4"), tmp_path)
    assert [name for name, _ in fake.trained] == ["first", "second"]


def test_a_run_that_only_warms_up_is_refused_before_it_trains(slow_start, tmp_path):
    words = f"folder,root={tiny.data()},backbone=mobilenet_v2,weights=none,width=0.25,size=32"
    config = cam_config.get_config(f"{words},batch=6,epochs=1")
    with config.unlocked():
        config.model.freeze_until = ""
    with pytest.raises(UserError, match=r"^train\.epochs=1: the run has 3 steps, and the first 5 "):
        stages.train_and_evaluate(config, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read", ["third", "second", "evaluate", "nonsense"])
def test_a_training_reads_the_trainings_before_it(fake, tmp_path, read):
    changes = {"stage.second.reads": ("first", read)}
    with pytest.raises(UserError) as error:
        stages.run(config_of(",phases=3,epochs=4", **changes), tmp_path)
    assert str(error.value) == f"stage.second.reads: {read!r} is no training before it: first."
    assert not fake.trained and not list(tmp_path.iterdir())


def test_a_folder_of_another_kind_of_run_is_refused(fake, tmp_path):
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    with pytest.raises(UserError, match="holds a run of one stage: take another"):
        stages.run(config_of(",epochs=4"), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_a_recipes_folder_is_no_place_for_another_run(fake, tmp_path):
    stages.run(config_of(",epochs=4"), tmp_path)
    saved_config = (tmp_path / "config.json").read_text()
    root = tiny.data()
    words = f"folder,root={root},backbone=mobilenet_v2,weights=none,width=0.25,size=32,batch=6"
    with pytest.raises(UserError, match="another"):
        workdirs.claim(tmp_path, cam_config.get_config(words), tiny.CLASSES)
    assert (tmp_path / "config.json").read_text() == saved_config


def test_unknown_stages_are_one_sentence(tmp_path):
    with pytest.raises(UserError) as error:
        stages.run(config_of(), tmp_path, ["nonsense"])
    assert str(error.value) == (
        "--stages: 'nonsense' is not one of this config's: first, second, evaluate."
    )
    done = tiny.run(tiny.flags(tiny.data(), tmp_path, "--stages=first,thrid", method="two_phase"))
    assert tiny.error_sentence(done).startswith("error: --stages: 'thrid' is not one of")
    done = tiny.run(tiny.flags(tiny.data(), tmp_path, "--stages=first"))  # CAM
    assert "this config's run has one stage" in tiny.error_sentence(done)
    done = tiny.run(
        tiny.flags(tiny.data(), tmp_path, "--config.two_phase.phases=3", method="two_phase")
    )
    assert "write phases=... after the config's path" in tiny.error_sentence(done)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("phases", [-1, 0, 1, 4])
def test_phases_are_one_to_three(phases):
    """One phase is a network that hides nothing; there is no name for a fourth."""
    if phases == 1:
        assert tuple(config_of(",phases=1").stages) == ("first", "evaluate")
    else:
        with pytest.raises(
            UserError, match=f"phases={phases}: expected a whole number from 1 to 3"
        ):
            config_of(f",phases={phases}")
