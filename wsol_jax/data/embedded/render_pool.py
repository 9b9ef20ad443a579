"""Draws the embedded data set's examples on all cores, the same whatever their number."""

import concurrent.futures
import os
import pickle
import subprocess
import sys
from typing import NamedTuple

import cv2
import numpy as np
from absl import logging

from wsol_jax.data.embedded import scenes

LIST_NAMES = ("train", "tune", "test")
_SEED = 2018
_CHUNK = 25


class Variant(NamedTuple):
    """What is drawn: the pictures' side in pixels, 1 to 4 creatures or one, their telling parts."""

    size: int = 96
    multi: bool = False
    parts: int = 1


SINGLE = Variant()


def draw_scene(list_name: str, index: int, variant: Variant = SINGLE) -> scenes.Scene:
    """Scene number index (0-based) of a list; lists and variants share no scene."""
    size, multi, parts = variant
    seed = (_SEED, int(multi) + 2 * (parts - 1), LIST_NAMES.index(list_name), index)
    return scenes.render_scene(seed, size=size, objects=(1, 4) if multi else (1, 1), parts=parts)


def draw_examples(list_name: str, lo: int, hi: int, variant: Variant) -> list[dict]:
    """Examples lo..hi-1 of a list as tfds takes them, image and masks as PNG bytes."""
    examples = []
    for index in range(lo, hi):
        scene = draw_scene(list_name, index, variant)
        example = {
            "image_id": f"{list_name}_{index:05d}",
            "image": _png(scene.image[..., ::-1]),
            "mask": _png(scene.mask),
            "labels": list(scene.labels),
            "boxes": scene.boxes,
            "box_labels": scene.box_labels.tolist(),
        }
        if variant.parts > 1:
            example["parts"] = _png(scene.parts)
        examples.append(example)
    return examples


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def draw_lists(list_sizes: dict[str, int], variant: Variant, workers: int) -> dict[str, list[dict]]:
    """All examples of several lists, in order.

    Args:
      list_sizes: number of examples of each list.
      workers: child processes; 0 draws in this one, which is also what happens when they fail.
    """
    chunks = [
        (name, lo, min(lo + _CHUNK, total), variant)
        for name, total in list_sizes.items()
        for lo in range(0, total, _CHUNK)
    ]
    try:
        drawn = _draw_apart(chunks, workers) if workers else [draw_examples(*c) for c in chunks]
    except (OSError, EOFError, subprocess.CalledProcessError, pickle.UnpicklingError) as e:
        logging.warning("drawing processes failed (%s): drawing in this one", e)
        drawn = [draw_examples(*chunk) for chunk in chunks]
    lists = {name: [] for name in list_sizes}
    for (name, *_), examples in zip(chunks, drawn, strict=True):
        lists[name] += examples
    return lists


def _draw_apart(chunks: list[tuple], workers: int) -> list[list[dict]]:
    """Draws chunks in plain child interpreters.

    Drawing holds the GIL, so threads gain nothing; fork is unsafe once JAX runs, and
    multiprocessing's spawn would run an unguarded script a second time.
    """
    drawn: list = [None] * len(chunks)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        shares = {k: pool.submit(_run_child, chunks[k::workers]) for k in range(workers)}
        for k, share in shares.items():
            drawn[k::workers] = share.result()
    return drawn


def _run_child(chunks: list[tuple]) -> list[list[dict]]:
    command = [sys.executable, "-c", f"from {__name__} import _child; _child()"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    done = subprocess.run(
        command, input=pickle.dumps(chunks), env=env, stdout=subprocess.PIPE, check=True
    )
    return pickle.loads(done.stdout)


def _child() -> None:
    cv2.setNumThreads(1)  # the processes already fill the cores
    chunks = pickle.load(sys.stdin.buffer)
    pickle.dump([draw_examples(*chunk) for chunk in chunks], sys.stdout.buffer)
