"""A method of two rounds, written outside of the package: train, label, train, label, train."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from configs import common, keywords
from wsol_jax.data.label_formats import cells, soft_maps
from wsol_jax.losses.classification import masked_mean, softmax_cross_entropy
from wsol_jax.methods import Aux, Labeller, LabelSpec, Localization, Method

SIDE = 6
LABELS = {"sure": LabelSpec((SIDE, SIDE), np.uint8, 255)}
LABELS["height"] = LabelSpec((SIDE, SIDE, 1), np.float16)


class Network(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(8, (5, 5), 4)(images.astype(jnp.float32) / 255))
        x = nn.Conv(self.num_classes, (1, 1))(x)
        return jax.image.resize(x, (len(x), SIDE, SIDE, self.num_classes), "linear")


def rounds(config, num_classes):
    """The image's class, and from round two on what the round before was sure of."""
    network = Network(num_classes)

    def loss(variables, batch, rng, step):
        maps = network.apply(variables, batch["image"])
        total = softmax_cross_entropy(jnp.mean(maps, axis=(1, 2)), batch["labels"])
        if config.labels:
            wanted = jax.nn.one_hot(batch["sure"].astype(jnp.int32) - 1, num_classes)
            wanted = wanted * batch["height"].astype(jnp.float32)
            total += jnp.mean(jnp.abs(maps - wanted), axis=(1, 2, 3))
        total = masked_mean(total, batch["valid"])
        return total, Aux({"loss": total}, {}, {})

    def localize(variables, images):
        maps = network.apply(variables, images)
        return Localization(jnp.mean(maps, axis=(1, 2)), maps)

    groups = lambda params: jax.tree.map(lambda _: "head/kernel", params)
    return Method(network.init, groups, loss, localize, LABELS if config.labels else {})


def bright(config, num_classes):
    """Where the image's class stands out, summed over the rounds, times the photo's brightness."""

    def make(networks, batch):
        maps = networks["net"].localize(batch["image"]).maps
        return {"map": jnp.sum(maps * batch["labels"][:, None, None], axis=-1, keepdims=True)}

    def finish(photo, made, earlier):
        height = (made["map"] - made["map"].mean()) * photo.pixels.mean() / 255
        height += sum(labels["height"].astype(np.float32) for labels in earlier.values())
        sure = np.where(height[..., 0] > 0, 1 + photo.labels[0], 255)
        return {"sure": sure.astype(np.uint8), "height": height.astype(np.float16)}

    reads = dict(config.rounds.items())
    return Labeller(reads, {"sure": cells(SIDE), "height": soft_maps()}, make, finish, seeds="net")


def get_config(arg=""):
    config = common.base()
    config.method, config.rounds = "helpers.rounds.rounds", {}
    config.data.name, pairs = keywords.parse(arg)
    keywords.apply(config, pairs)
    config.stages = ("one", "label_one", "two", "label_two", "three", "evaluate")
    reads = {"label_one": {"net": "one"}, "label_two": {"net": "two", "last": "label_one"}}
    for before, name in (("", "one"), ("label_one", "two"), ("label_two", "three")):
        training = common.stage(config, name)
        training.labels = f"sure={before}/sure,height={before}/height" if before else ""
        if before:
            common.label_stage(config, before, config.method, "bright").rounds = reads[before]
    return common.finish(config)
