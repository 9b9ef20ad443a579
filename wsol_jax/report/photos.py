"""Photos of a finished run's lists, read again from the data set where it still lies."""

import contextlib
import pathlib
from collections.abc import Collection

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.data.decode import CorruptImage, decode_rgb
from wsol_jax.data.lists import open_present
from wsol_jax.runs import workdirs


def read_photos(workdir: str, name: str, image_ids: Collection[str]) -> dict[str, np.ndarray]:
    """Those of the images of a run's list that are on this disk; nothing is fetched.

    Args:
      name: the list's name, as in metrics.json.
    Returns:
      {image id: (H, W, 3) uint8 RGB}; empty where the run's config or its data set is not here.
    """
    wanted, found = set(image_ids), {}
    try:
        config, _ = workdirs.load(pathlib.Path(workdir))
        source = open_present(config.data, name)
        for index in range(len(source)):
            if len(found) == len(wanted):
                break
            record = source[index]
            if record.image_id not in wanted:
                continue
            with contextlib.suppress(CorruptImage):
                found[record.image_id] = decode_rgb(record.image, record.image_id)
    except (UserError, OSError):
        pass  # a page without some photos is better than none; it says how many are missing
    return found
