"""A small convolutional network three times: in linen, in nnx, and in NumPy at float64 by hand."""

import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import nnx

from helpers.networks import resized

SIDE, CHANNELS, HIDDEN, CLASSES = 16, 6, 5, 4
BATCH = 3


@functools.cache
def weights():
    """float64: kernels and biases of the two convolutions and of the scores."""
    rng = np.random.default_rng(3)
    draw = lambda *shape: rng.normal(0, 0.4, shape)
    return {
        "one": (draw(3, 3, 3, CHANNELS), draw(CHANNELS)),
        "two": (draw(3, 3, CHANNELS, HIDDEN), draw(HIDDEN)),
        "scores": (draw(HIDDEN, CLASSES), 3 + draw(CLASSES)),  # scores above 0
    }


@functools.cache
def images():
    """(B, 16, 16, 3) float64, around 0 as prepared photos are."""
    return np.random.default_rng(4).normal(0, 1, (BATCH, SIDE, SIDE, 3))


class LinenNet(nn.Module):
    """Features behind a ReLU at half the size, then a convolution, a mean and the scores."""

    stride: int = 2

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.relu(nn.Conv(CHANNELS, (3, 3), self.stride, name="one")(x))
        x = nn.relu(nn.Conv(HIDDEN, (3, 3), name="two")(x))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(CLASSES, name="scores")(x.mean(axis=(1, 2))), x


def linen_variables():
    layers = {
        name: {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}
        for name, (kernel, bias) in weights().items()
    }
    return {"params": layers}


class NnxNet(nnx.Module):
    """The same, its convolutions in a list."""

    def __init__(self, stride: int = 2):
        rngs = nnx.Rngs(0)
        self.convs = nnx.List(
            [
                nnx.Conv(3, CHANNELS, (3, 3), stride, rngs=rngs),
                nnx.Conv(CHANNELS, HIDDEN, (3, 3), rngs=rngs),
            ]
        )
        self.scores = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, x):
        for conv in self.convs:
            x = nnx.relu(conv(x))
        return self.scores(x.mean(axis=(1, 2)))


def nnx_net(stride: int = 2):
    net = NnxNet(stride)
    for layer, (kernel, bias) in zip((*net.convs, net.scores), weights().values(), strict=True):
        layer.kernel.set_value(jnp.float32(kernel))
        layer.bias.set_value(jnp.float32(bias))
    return net


# ---------------------------------------------------------------- by hand, float64


def convolved(x, kernel, stride=1):
    """3x3, as SAME pads: one on each side, or one at the end where the stride is 2."""
    height, width = x.shape[1:3]
    low = 1 if stride == 1 else 0
    padded = np.pad(x, ((0, 0), (low, 1), (low, 1), (0, 0)))
    out = 0
    for dy in range(3):
        for dx in range(3):
            part = padded[:, dy : dy + height : stride, dx : dx + width : stride]
            out = out + part @ kernel[dy, dx]
    return out


def features(x, stride=2):
    kernel, bias = weights()["one"]
    return np.maximum(convolved(x, kernel, stride) + bias, 0)


def scores(maps):
    """(B, h, w, D) features -> (B, C)."""
    (kernel, bias), (last, offset) = weights()["two"], weights()["scores"]
    hidden = np.maximum(convolved(maps, kernel) + bias, 0)
    return hidden.mean(axis=(1, 2)) @ last + offset


def gradient(maps, classes):
    """Of the classes' scores with respect to the features: the chain rule, layer by layer."""
    (kernel, bias), (last, _) = weights()["two"], weights()["scores"]
    before = convolved(maps, kernel) + bias
    cells = maps.shape[1] * maps.shape[2]
    back = (before > 0) * last[:, classes].T[:, None, None] / cells
    padded = np.pad(back, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = maps.shape[1:3]
    out = np.zeros_like(maps)
    for dy in range(3):
        for dx in range(3):
            part = padded[:, 2 - dy : 2 - dy + height, 2 - dx : 2 - dx + width]
            out += part @ kernel[dy, dx].T
    return out


def weighed(maps, by):
    return np.maximum((maps * by[:, None, None]).sum(-1), 0)


def by_hand(name, classes, stride=2):
    """An explanation of the images by its paper's formula."""
    classes = np.asarray(classes)
    maps = features(images(), stride)
    slope = gradient(maps, classes)
    total = maps.sum(axis=(1, 2))
    if name == "grad_cam":
        return weighed(maps, slope.mean(axis=(1, 2)))
    if name == "grad_cam_pp":
        below = 2 * slope**2 + total[:, None, None] * slope**3
        alpha = np.where(slope != 0, slope**2 / np.where(slope != 0, below, 1), 0)
        return weighed(maps, (alpha * np.maximum(slope, 0)).sum(axis=(1, 2)))
    if name == "xgrad_cam":
        return weighed(maps, (slope * maps).sum(axis=(1, 2)) / total)
    if name == "layer_cam":
        return np.maximum((np.maximum(slope, 0) * maps).sum(-1), 0)
    if name == "score_cam":
        return weighed(maps, softmax(window_scores(maps, classes, stride)))
    if name == "ablation_cam":
        own = scores(maps)[np.arange(BATCH), classes]
        return weighed(maps, (own[:, None] - without_each(maps, classes)) / own[:, None])
    if name == "eigen_cam":
        return eigen(maps)
    raise KeyError(name)


def window_scores(maps, classes, stride=2):
    """(B, D): the class's score of the image seen through each channel."""
    found = np.zeros((BATCH, CHANNELS))
    for channel in range(CHANNELS):
        window = resized(maps[..., channel], SIDE)
        low, high = (f(window, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
        window = (window - low) / np.where(high > low, high - low, 1)
        seen = scores(features(images() * window[..., None], stride))
        found[:, channel] = seen[np.arange(BATCH), classes]
    return found


def without_each(maps, classes):
    """(B, D): the class's score without each channel."""
    found = np.zeros((BATCH, CHANNELS))
    for channel in range(CHANNELS):
        left = maps.copy()
        left[..., channel] = 0
        found[:, channel] = scores(left)[np.arange(BATCH), classes]
    return found


def eigen(maps):
    found = []
    for one in maps:
        cells = one.reshape(-1, one.shape[-1])
        cells = cells - cells.mean(axis=0)
        _, _, rows = np.linalg.svd(cells, full_matrices=False)
        projected = cells @ rows[0]
        if projected @ cells.sum(axis=1) < 0:
            projected = -projected
        found.append(np.maximum(projected, 0).reshape(one.shape[:2]))
    return np.stack(found)


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)
