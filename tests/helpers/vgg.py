"""A narrow VGG16's weight file with random values, in each publisher's names and axis orders."""

import numpy as np
from safetensors.numpy import save_file

WIDTH = 0.125
DEPTH, HIDDEN = 64, 512  # channels of pool5, and of fc6 and fc7

_CONVS = [(b, i) for b, depth in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, depth + 1)]
_CHANNELS = {1: 8, 2: 16, 3: 32, 4: 64, 5: DEPTH}
_TORCH_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # places in ``features``


def keras_arrays(dense=True, seed=0):
    """Keras' names; ``dense=False``: those of its "notop" file."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(0, 0.05, shape).astype(np.float32)
    arrays, before = {}, 3
    for block, index in _CONVS:
        name, channels = f"block{block}_conv{index}", _CHANNELS[block]
        arrays[f"{name}/kernel"] = draw(3, 3, before, channels)
        arrays[f"{name}/bias"] = draw(channels)
        before = channels
    if dense:
        sizes = {"fc1": (49 * DEPTH, HIDDEN), "fc2": (HIDDEN, HIDDEN), "predictions": (HIDDEN, 7)}
        for name, size in sizes.items():
            arrays[f"{name}/kernel"], arrays[f"{name}/bias"] = draw(*size), draw(size[1])
    return arrays


def torch_arrays(dense=True, seed=0):
    """torchvision's names; ``dense=False``: ``features`` alone."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(0, 0.05, shape).astype(np.float32)
    arrays, before = {}, 3
    for place, (block, _) in zip(_TORCH_CONVS, _CONVS, strict=True):
        channels = _CHANNELS[block]
        arrays[f"features.{place}.weight"] = draw(channels, before, 3, 3)
        arrays[f"features.{place}.bias"] = draw(channels)
        before = channels
    if dense:
        sizes = {0: (HIDDEN, 49 * DEPTH), 3: (HIDDEN, HIDDEN), 6: (7, HIDDEN)}
        for place, size in sizes.items():
            arrays[f"classifier.{place}.weight"] = draw(*size)
            arrays[f"classifier.{place}.bias"] = draw(size[0])
    return arrays


ARRAYS = {"keras": keras_arrays, "torchvision": torch_arrays}


def save(folder, arrays):
    """Writes .npz of Keras' names, .safetensors of torchvision's."""
    if "block1_conv1/kernel" in arrays:
        np.savez(folder / "vgg16.npz", **arrays)
        return folder / "vgg16.npz"
    save_file(arrays, folder / "vgg16.safetensors")
    return folder / "vgg16.safetensors"


def fc6_of(arrays, features):
    """The published network's own fc6 before ReLU: (7, 7, DEPTH) -> (HIDDEN,), float64."""
    features = np.asarray(features, np.float64)
    if "fc1/kernel" in arrays:
        return features.reshape(-1) @ arrays["fc1/kernel"] + arrays["fc1/bias"]
    flat = features.transpose(2, 0, 1).reshape(-1)
    return arrays["classifier.0.weight"] @ flat + arrays["classifier.0.bias"]


def every(arrays, layer, step):
    """(kernel, bias) of fc6 or fc7, an entry at a time: every step-th channel, rows 0, 3, 6."""
    keras = {"fc6": "fc1", "fc7": "fc2"}[layer]
    torch = {"fc6": "classifier.0", "fc7": "classifier.3"}[layer]
    if f"{keras}/bias" in arrays:
        bias = arrays[f"{keras}/bias"]
        entry = lambda i, j, c, o: arrays[f"{keras}/kernel"][(7 * i + j) * DEPTH + c, o]
        between = lambda c, o: arrays[f"{keras}/kernel"][c, o]
    else:
        bias = arrays[f"{torch}.bias"]
        entry = lambda i, j, c, o: arrays[f"{torch}.weight"][o, 49 * c + 7 * i + j]
        between = lambda c, o: arrays[f"{torch}.weight"][o, c]
    channels = range(0, HIDDEN, step)
    if layer == "fc7":
        kernel = [[[[between(c, o) for o in channels] for c in channels]]]
    else:
        window = (0, 3, 6)
        kernel = [
            [[[entry(i, j, c, o) for o in channels] for c in range(DEPTH)] for j in window]
            for i in window
        ]
    return np.array(kernel), np.array([bias[o] for o in channels])
