"""SEC's segmenter on a tiny network: its config, batch, compiled losses and the CRF's target."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import sec as sec_config
from helpers.compiling import quick
from helpers.networks import IMAGES, KEY, SIDE, assert_trees_equal
from wsol_jax import methods
from wsol_jax.losses import sec as losses
from wsol_jax.methods import shared
from wsol_jax.networks import backbones
from wsol_jax.networks.heads import LargeFovHead
from wsol_jax.ops.crf import dense_crf
from wsol_jax.stages import recipe as stages

CELLS = 8  # of 32 pixels, at this trunk's stride


def tiny(**changes):
    """Three narrow layers of VGG16 and a narrow head: the config of the stage "segment"."""
    config = sec_config.get_config("cub,backbone=vgg16,weights=none,width=0.1,size=32")
    config = stages.stage_config(config, "segment")
    with config.unlocked():
        config.model.final_endpoint = "conv2_1"
        config.model.trunk = {"normalise": True, "stem_stride": 2}
        config.model.preprocessing, config.dtype = "tf", "float32"
        config.sec.cells = 2 * CELLS
        config.sec.channels, config.sec.dilation, config.sec.dropout = 16, 2, 0.0
        config.sec.bilateral, config.sec.spatial = (4.0, 3.0, 40.0), (2.0, 1.0)
        config.sec.iterations = 3
        config.update_from_flattened_dict(changes)
    return config


BATCH = {
    "image": IMAGES,
    "labels": np.array([[1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5, [1] * 5], np.float32),
    "valid": np.array([True, True, True, False]),
    "cues": np.random.default_rng(0)
    .choice([0, 1, 2, 3, 4, 5, 255], size=(4, 2 * CELLS, 2 * CELLS))
    .astype(np.uint8),
}
BATCH["cues"][2] = 255


def spread(variables):
    """Scores that differ between cells and classes: fresh ones are all but flat."""
    head = variables["params"]["head"]
    fc8 = {"kernel": head["fc8"]["kernel"] * 60, "bias": jnp.linspace(-1.0, 1.0, 6)}
    return {**variables, "params": {**variables["params"], "head": {**head, "fc8": fc8}}}


@functools.cache
def variables():
    method = methods.build(tiny(), 5)
    return spread(method.init(jax.random.key(1), jnp.asarray(IMAGES[:1])))


@functools.cache
def built(**changes):
    """(variables, batch) -> ((loss, aux), gradient of the parameters)."""
    method = methods.build(tiny(**changes), 5)

    def total(params, rest, batch, rng):
        return method.loss({"params": params, **rest}, batch, rng, jnp.asarray(3))

    call = quick(jax.value_and_grad(total, has_aux=True))

    def run(batch=BATCH, rng=KEY):
        rest = {k: v for k, v in variables().items() if k != "params"}
        return call(variables()["params"], rest, batch, rng)

    return run


@functools.cache
def network():
    config = tiny()
    head = LargeFovHead(num_classes=6, channels=16, dilation=2, dropout=0.0)
    trunk = backbones.build(config.model, jnp.float32)
    return shared.TrunkAndHead(trunk, head, "conv2_1", "tf")


@functools.cache
def scores():
    """Before softmax, of the whole batch."""
    return quick(network().apply)(variables(), jnp.asarray(IMAGES))[0]


probabilities = quick(losses.segmenter_probabilities, static_argnums=1)
expand_loss = quick(losses.expand_loss, static_argnames=("foreground", "background"))


def mean_valid(values):
    return np.asarray(values, np.float64)[BATCH["valid"]].mean()


@functools.cache
def crf_target():
    """The CRF's answer on raw scores and shrunk photos, clipped and renormalised."""
    small = jax.image.resize(
        IMAGES.astype(np.float32), (4, CELLS, CELLS, 3), "bilinear", antialias=False
    )
    settings = dict(bilateral=(4.0, 3.0, 40.0), spatial=(2.0, 1.0), iterations=3)
    call = quick(lambda unary, photos: dense_crf(unary, photos, **settings))
    found = call(-scores(), jnp.round(small).astype(jnp.uint8))
    found = np.maximum(np.asarray(found, np.float64), 1e-4)
    return found / found.sum(axis=-1, keepdims=True)


def assert_padding_changes_nothing(step):
    """Whatever photo, labels and cues stand in a row that is not valid.

    ``step``: a batch, ``BATCH`` by default -> ((loss, aux), gradient).
    """
    (loss, aux), gradient = step()
    other = {name: value.copy() for name, value in BATCH.items()}
    other["image"][3] = np.random.default_rng(0).integers(0, 2, (SIDE, SIDE, 3)) * 255
    other["labels"][3], other["cues"][3] = 0, 255
    (loss2, aux2), gradient2 = step(other)
    assert loss == loss2 and np.isfinite(loss)
    assert_trees_equal(gradient, gradient2)
    assert_trees_equal(aux.metrics, aux2.metrics)
