"""The tfds builder of the embedded data set: what its files hold, and the variants there are."""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np
import tensorflow_datasets as tfds

from wsol_jax.data.embedded import render_pool, scenes

LIST_SIZES = {"train": 2000, "tune": 200, "test": 400}


@dataclasses.dataclass(eq=False, kw_only=True)
class EmbeddedConfig(tfds.core.BuilderConfig):
    """What tells one written data set from another.

    Attributes:
      size: side of the pictures in pixels.
      multi: 1 to 4 creatures a picture instead of one.
      parts: how many parts of a creature tell its class: 1, its head; 2, its tail's tip too.
      list_sizes: number of pictures of each list.
      workers: processes that draw, 0 for this one; the result is the same.
    """

    size: int = 96
    multi: bool = False
    parts: int = 1
    list_sizes: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(LIST_SIZES))
    workers: int = dataclasses.field(default_factory=lambda: min(os.cpu_count() or 1, 8))

    @property
    def variant(self) -> render_pool.Variant:
        return render_pool.Variant(self.size, self.multi, self.parts)


class EmbeddedScenes(tfds.core.GeneratorBasedBuilder):
    """tfds builder of the embedded data set; open_embedded is the way to it."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        EmbeddedConfig(name="single", description="One creature a picture."),
        EmbeddedConfig(name="multi", description="1 to 4 creatures a picture.", multi=True),
        EmbeddedConfig(name="single_parts2", description="One, with two telling parts.", parts=2),
        EmbeddedConfig(
            name="multi_parts2", description="1 to 4, two telling parts each.", multi=True, parts=2
        ),
    ]
    # tfds looks for a file of download checksums beside the code, by way of importlib_resources,
    # which it does not install. There is no such file here.
    code_path = None

    def _info(self) -> tfds.core.DatasetInfo:
        side, parts = self.builder_config.size, self.builder_config.parts
        png = tfds.features.Image(shape=(side, side, 1), encoding_format="png")
        label = tfds.features.ClassLabel(names=list(scenes.CLASS_NAMES))
        return tfds.core.DatasetInfo(
            builder=self,
            description="Creatures that differ by their heads alone, rendered on clutter.",
            features=tfds.features.FeaturesDict(
                {
                    "image_id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                    "mask": png,
                    "labels": tfds.features.Sequence(label),
                    "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
                    "box_labels": tfds.features.Sequence(label),
                    **({"parts": png} if parts > 1 else {}),
                }
            ),
            disable_shuffling=True,  # record i is scene i
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        config = self.builder_config
        lists = render_pool.draw_lists(dict(config.list_sizes), config.variant, config.workers)
        return {name: self._generate_examples(examples) for name, examples in lists.items()}

    def _generate_examples(self, examples):
        yield from enumerate(examples)

    # tfds speaks of a download, which there is none of.
    def _log_download_bytes(self) -> None:
        pass

    def _log_download_done(self) -> None:
        pass
