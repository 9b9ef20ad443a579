"""A segmenter's fc6 and fc7 from VGG's own: which stages ask for them, and the head they make."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import vgg

from configs import sec as sec_config
from configs import two_phase as two_phase_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.methods import shared
from wsol_jax.networks import backbones
from wsol_jax.networks.heads import LargeFovHead
from wsol_jax.runs import plan, workdirs
from wsol_jax.stages import recipe
from wsol_jax.stages.sections import stage_config, trainings

IMAGES = jnp.zeros((1, 64, 64, 3), jnp.uint8)


@pytest.fixture(autouse=True)
def numpys_start(monkeypatch):
    """Random values of the network's shapes: compiling thirteen layers' own takes seconds."""
    own = shared.TrunkAndHead.init

    def init(network, rngs, images):
        rng = np.random.default_rng(0)
        shapes = jax.eval_shape(lambda: own(network, rngs, images))
        return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)

    monkeypatch.setattr(shared.TrunkAndHead, "init", init)


def segmenter(weights, words="voc", **changes):
    """SEC's published network on a narrow VGG16, its head as narrow."""
    words = f"{words},weights={weights},width={vgg.WIDTH},size=64"
    config = stage_config(sec_config.get_config(words), "segment")
    with config.unlocked():
        config.sec.channels, config.dtype = vgg.HIDDEN // 4, "float32"
        config.update_from_flattened_dict(changes)
    return plan.resolve(config)


def started(config):
    return methods.build(config, 20).init(jax.random.key(0), IMAGES)["params"]


@pytest.mark.parametrize("layout", vgg.ARRAYS)
def test_secs_head_starts_from_the_file(tmp_path, layout):
    arrays = vgg.ARRAYS[layout]()
    config = segmenter(vgg.save(tmp_path, arrays))
    params, random = started(config), started(plan.without_weights(config))
    for layer in ("fc6", "fc7"):
        kernel, bias = vgg.every(arrays, layer, 4)
        np.testing.assert_array_equal(params["head"][layer]["kernel"], kernel)
        np.testing.assert_array_equal(params["head"][layer]["bias"], bias)
        assert (random["head"][layer]["kernel"] != kernel).any()
    # What no file has is as it was, and the trunk is the file's.
    jax.tree.map(np.testing.assert_array_equal, params["head"]["fc8"], random["head"]["fc8"])
    last = arrays.get("block5_conv3/bias", arrays.get("features.28.bias"))
    np.testing.assert_array_equal(params["backbone"]["conv5_3"]["bias"], last)
    assert jax.tree.structure(params) == jax.tree.structure(random)


@pytest.mark.parametrize("dense, field", [(False, True), (True, False)])
def test_a_notop_file_and_a_field_leave_the_head_random(tmp_path, dense, field):
    path = vgg.save(tmp_path, vgg.keras_arrays(dense))
    config = segmenter(path, **{"model.dense_layers": field})
    params, random = started(config), started(plan.without_weights(config))
    jax.tree.map(np.testing.assert_array_equal, params["head"], random["head"])
    assert (params["backbone"]["conv1_1"]["bias"] != random["backbone"]["conv1_1"]["bias"]).any()


def test_a_head_that_does_not_divide_is_refused(tmp_path):
    path = vgg.save(tmp_path, vgg.keras_arrays())
    with pytest.raises(UserError, match=r"fc6/kernel .* does not thin out to \(3, 3, 64, 100\)"):
        started(segmenter(path, **{"sec.channels": 100}))


def test_shapes_are_asked_for_without_reading(tmp_path):
    path = vgg.save(tmp_path, vgg.keras_arrays())
    config = segmenter(path)
    path.unlink()
    method = methods.build(plan.without_weights(config), 20)
    shapes = jax.eval_shape(method.init, jax.random.key(0), IMAGES)["params"]["head"]
    assert shapes["fc6"]["kernel"].shape == (3, 3, vgg.DEPTH, vgg.HIDDEN // 4)


def test_only_the_heads_that_are_named_are_filled(tmp_path):
    """A method without such a head asks for none, whatever the field says."""
    config = segmenter(vgg.save(tmp_path, vgg.keras_arrays()))
    head = LargeFovHead(num_classes=3, channels=vgg.HIDDEN // 4)
    network = shared.TrunkAndHead(backbones.build(config.model, jnp.float32), head, "pool5", "tf")
    init = lambda **names: shared.initialiser(network, config.model, **names)(
        jax.random.key(0), IMAGES
    )
    plain = network.init({"params": jax.random.key(0)}, IMAGES)
    jax.tree.map(np.testing.assert_allclose, init()["params"]["head"], plain["params"]["head"])
    named = init(dense=("head",))["params"]["head"]
    assert (named["fc6"]["kernel"] != plain["params"]["head"]["fc6"]["kernel"]).any()


def test_stages_with_vggs_segmenter_ask_for_them():
    for config in (
        sec_config.get_config("voc"),
        sec_config.get_config("folder,root=x"),
        two_phase_config.get_config("voc,segment=true"),
    ):
        asked = {x: stage_config(config, x).model.dense_layers for x in trainings(config)}
        assert asked == {name: name == "segment" for name in asked}


@pytest.mark.parametrize(
    "words",
    [
        "voc,backbone=mobilenet_v2",
        "cub,backbone=inception_v3",
        "voc,backbone=resnet101",
        "embedded",
    ],
)
def test_other_segmenters_do_not(words):
    config = sec_config.get_config(words)
    assert not any(stage_config(config, x).model.dense_layers for x in trainings(config))


def test_each_stage_fetches_the_file_that_it_needs(tmp_path, monkeypatch):
    """All before the first training: none waits for hours to find the network gone."""
    asked = []

    def ensure_weights(name, dense):
        asked.append((name, dense))
        if dense:
            raise UserError("cannot be reached.")
        return vgg.save(tmp_path, vgg.keras_arrays(dense))

    monkeypatch.setattr(plan, "ensure_weights", ensure_weights)
    config = sec_config.get_config("embedded,weights=imagenet")
    with config.unlocked():
        config.stage.segment.model.dense_layers = True
    with pytest.raises(UserError, match="cannot be reached"):
        recipe.run(config, tmp_path / "run")
    assert asked == [("vgg16", False), ("vgg16", True)]
    assert not (tmp_path / "run").exists()


def test_a_run_of_earlier_days_keeps_its_random_start(tmp_path):
    config = stage_config(sec_config.get_config("voc,weights=none"), "segment")
    workdirs.write(tmp_path, config, ("a",))
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    content = json.loads((tmp_path / "config.json").read_text())
    del content["config"]["model"]["dense_layers"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"a run with model\.dense_layers=False.* has True"):
        workdirs.claim(tmp_path, config, ("a",))
    with config.unlocked():
        config.model.dense_layers = False
    workdirs.claim(tmp_path, config, ("a",))
