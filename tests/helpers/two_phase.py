"""Two-phase learning on a tiny network: configs, networks, compiled losses, and NumPy's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import two_phase as two_phase_config
from helpers.compiling import quick
from helpers.networks import BATCH, IMAGES, KEY
from wsol_jax import methods
from wsol_jax.methods import two_phase
from wsol_jax.stages import recipe as stages

PHASES = ("first", "second", "third")
SHARES = (0.6, 0.4)
MULTI = dict(BATCH, labels=np.array([[1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [1, 0, 1, 0, 1], [0] * 5]))
MULTI["labels"] = MULTI["labels"].astype(np.float32)
PLAIN = {"model.dropout": 0.0}


def tiny(phase="second", words="", **changes):
    """Three narrow layers of VGG16 under either head, 8x8: the config of one phase's stage."""
    config = two_phase_config.get_config(
        f"cub,phases=3,backbone=vgg16,weights=none,width=0.1,size=32,output_stride=8{words}"
    )
    with config.unlocked():
        config.two_phase.head, config.model.head_layers = "cam", 1
        config.model.final_endpoint, config.model.head_channels = "conv2_1", 16
        config.model.trunk = {"normalise": True, "stem_stride": 2}
        config.model.preprocessing = "tf"
        config.dtype = "float32"
        config.update_from_flattened_dict(changes)
    return stages.stage_config(config, phase)


def network_of(config):
    backbone, head = two_phase._parts(config, 5)
    at = config.two_phase.hide_at
    return two_phase.TwoPhaseNetwork(backbone, head, config.model.final_endpoint, "tf", at)


def spread(variables, scale=300.0, bias=0.0):
    """Class maps that differ, of both signs: fresh ones are all but flat."""
    head = dict(variables["params"]["head"])
    head["class_maps"] = {"kernel": head["class_maps"]["kernel"] * scale}
    if "bias" in variables["params"]["head"]["class_maps"]:
        head["class_maps"]["bias"] = jnp.full((5,), bias)
    return {**variables, "params": {**variables["params"], "head": head}}


@functools.cache
def trained():
    """A network for each phase."""
    network = network_of(tiny())
    start = quick(lambda key: network.init({"params": key}, jnp.asarray(IMAGES)))
    return {name: spread(start(jax.random.key(i))) for i, name in enumerate(PHASES)}


@functools.cache
def compiled():
    """As a network is used: no batch statistics move, nothing is dropped."""
    network = network_of(tiny())
    return quick(lambda v, keep=None: network.apply(v, jnp.asarray(IMAGES), keep=keep))


def outputs(variables, keep=None):
    """Logits and raw maps."""
    return [np.asarray(x, np.float64) for x in compiled()(variables, keep)]


class Made:
    """A phase's method, what each phase trained, and its compiled loss and gradient."""

    def __init__(self, phase, **changes):
        self.config = tiny(phase, **changes)
        self.method = methods.build(self.config, 5)
        self.each = {name: trained()[name] for name in PHASES[: PHASES.index(phase) + 1]}
        self.own = self.each.pop(phase)
        self.variables = {**self.own, **self.each}

        def total(variables, batch):
            return self.method.loss(variables, batch, KEY, jnp.asarray(3))

        self.loss = quick(total)
        self._call = quick(jax.value_and_grad(total, has_aux=True))

    def __call__(self, batch=BATCH, **variables):
        return self._call({**self.variables, **variables}, batch)

    def mask(self, labels, shares=SHARES):
        """Eqs. 1 and 2 on the raw maps of every earlier network."""
        keep = np.ones((len(labels), 8, 8))
        for name, share in zip(self.each, shares, strict=False):
            _, maps = outputs(self.each[name])
            for n, c in np.argwhere(labels > 0):
                one = maps[n, :, :, c]
                if one.max() > 0:
                    keep[n][one > share * one.max()] = 0
        return keep


@functools.cache
def built(phase="second", **changes):
    """A phase, made once."""
    return Made(phase, **changes)


def softmax_loss(logits, batch):
    logits, y = logits - logits.max(axis=1, keepdims=True), batch["labels"]
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    share = y / np.maximum(y.sum(axis=1, keepdims=True), 1)
    return -(log_p * share).sum(axis=1)[batch["valid"]].mean()


def sigmoid_loss(logits, batch):
    y = batch["labels"]
    each = y * np.logaddexp(0, -logits) + (1 - y) * np.logaddexp(0, logits)
    return each.sum(axis=1)[batch["valid"]].mean()


def softmax(y):
    e = np.exp(y - y.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
