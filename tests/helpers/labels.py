"""Label stages on networks that are a formula, and what a folder of labels holds."""

import dataclasses
import functools
import io

import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.base.files import write_whole
from wsol_jax.data.label_formats import cells
from wsol_jax.data.pseudo_labels import LabelFolder
from wsol_jax.data.records import Record
from wsol_jax.methods import Localization
from wsol_jax.methods.confident import confident_cells
from wsol_jax.runs.opened import OpenedRun
from wsol_jax.stages import label

SIZE = 8
INPUTS = {"maps": "a", "saliency": "b", "settings": "c", "labels": "d"}


@dataclasses.dataclass(frozen=True)
class Painted:
    """Photos of coloured squares: red is class 0, green class 1, what is dark is background.

    ``broken`` ones do not decode; a mask is not to be read.
    """

    count: int = 7
    broken: tuple[int, ...] = ()
    name: str = "train"
    class_names: tuple[str, ...] = ("red", "green")

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[2:10, 2:8, index % 2] = 200 + index
        pixels[12:, 12:, 1 - index % 2] = 255
        pixels[..., 2] = np.arange(16)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        image = b"none" if index in self.broken else buffer.getvalue()
        return Record(f"part/id{index}", image, (index % 2,))

    def mask(self, index):
        raise AssertionError("a mask was read for a label")


def localize(variables, images):
    maps = images[..., :2].astype(jnp.float32) * variables["scale"]
    return Localization(jnp.zeros((len(images), 2)), maps)


def tap(variables, images, layer, bump=None):
    """Class scores that a layer of zeros moves by how bright the photo is there."""
    assert layer == "layer"
    bright = jnp.sum(images.astype(jnp.float32), axis=-1, keepdims=True) * variables["scale"]
    features = jnp.zeros(bright.shape) if bump is None else bump
    return features, jnp.sum(bright * features, axis=(1, 2))


FORMULA = methods.Method(None, None, None, localize, tap=tap)


def config_of(**changes):
    fields = dict(maps="first", saliency="first", size=SIZE, foreground=0.5, background=0.25)
    fields |= dict(strict=False)
    return ml_collections.ConfigDict(
        {
            "eval": {"size": 16, "batch_size": 4},
            "data": {"crop": 16, "max_corrupt": 2, "workers": 0, "threads": 2},
            "train": {"devices": 1},
            "cues": {**fields, "layer": "layer", **changes},
        }
    )


@functools.cache
def opened(scale=1.0):
    mesh = sharding.data_mesh(1)
    return OpenedRun(config_of(), FORMULA, {"scale": jnp.float32(scale)}, mesh, None, 1)


def label_stage(folder, source=None, labeller=None, networks=None, earlier=None, **changes):
    """A label stage, of SEC's cues where no other labeller is given."""
    config = config_of(**changes)
    if labeller is None:
        labeller = confident_cells(config, 2)
        networks = {"maps": opened(), "saliency": opened()}
    places, hashes = earlier or {}, dict.fromkeys(earlier or {}, "hash")
    source = source or Painted()
    return label.LabelStage(config, labeller, networks or {}, places, hashes, source, folder)


def make(folder, source=None, inputs=INPUTS, **changes):
    return label.make_labels(label_stage(folder, source, **changes), inputs)


def check(folder, source=None, inputs=INPUTS, **changes):
    return label.check_labels(label_stage(folder, source, **changes), inputs)


def cue_folder(folder, size=SIZE):
    return LabelFolder(folder, {"cues": cells(size)})


def write_labels(place, image_id, arrays):
    """What a label stage does of one photo, by hand."""
    for path, data in place.encode(image_id, arrays):
        write_whole(path, data)


def content(folder):
    """Every picture of a folder, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.png")}
