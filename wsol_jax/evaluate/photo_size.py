"""Maps and segmentations brought to a photo's size, and to its edges."""

import dataclasses

import cv2
import ml_collections
import numpy as np

from wsol_jax.ops.crf import CrfSettings, dense_crf

_CHANNELS = 64


def resize_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, C) -> (H, W, C) bilinearly, as many channels at a time as OpenCV takes.

    ``size``: (width, height).
    """
    parts = [maps[..., i : i + _CHANNELS] for i in range(0, maps.shape[-1], _CHANNELS)]
    large = [cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in parts]
    return np.concatenate([x.reshape(*size[::-1], -1) for x in large], axis=-1)


def segment_probabilities(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A segmentation's probabilities at the image's size, with background's in front.

    Args:
      maps: (h, w, C) probabilities that sum to 1 at most.
      size: (width, height).

    Returns:
      (H, W, 1 + C) float32.
    """
    background = np.clip(1 - maps.sum(axis=-1, keepdims=True), 0, 1)
    whole = np.concatenate([background, maps], axis=-1).astype(np.float32)
    return resize_maps(whole, size)


def apply_crf(
    probabilities: np.ndarray, image: np.ndarray, options: ml_collections.ConfigDict
) -> np.ndarray:
    """(H, W, 1 + C) probabilities brought to the photo's edges by the lattice CRF.

    Args:
      image: (H, W, 3) uint8. options: the section ``eval.crf``.
    """
    settings = CrfSettings.of(options, "eval.crf", "lattice")
    unary = -np.log(np.clip(probabilities, options.clip, 1))
    return np.asarray(dense_crf(unary, image, **dataclasses.asdict(settings)))
