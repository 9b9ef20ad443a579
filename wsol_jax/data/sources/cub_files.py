"""The files of CUB-200-2011, found on this disk or fetched."""

import os
import pathlib

from wsol_jax.base.download import Remote, fetch, unpack
from wsol_jax.base.files import cache_folder

CUB = Remote(
    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
    md5="97eceeb196236b17998738112f37df78",
)


CUB_MASKS = Remote(
    "https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz",
    md5="4d47ba1228eae64f2fa547c47bc65255",
)


def find_cub(root: str | os.PathLike | None = None) -> pathlib.Path | None:
    """Finds the CUB_200_2011 folder where ``ensure_cub`` looks for it; None where it is not."""
    root = pathlib.Path(root) if root else cache_folder() / "cub"
    there = (p for p in (root, root / "CUB_200_2011") if (p / "images.txt").is_file())
    return next(there, None)


def ensure_cub(root: str | os.PathLike | None = None) -> pathlib.Path:
    """Finds the CUB_200_2011 folder below root, or fetches and unpacks it there.

    Args:
      root: CUB_200_2011, or the folder that holds or shall hold it; default cache_folder()/cub.

    Raises UserError as fetch and unpack do.
    """
    if (place := find_cub(root)) is not None:
        return place
    root = pathlib.Path(root) if root else cache_folder() / "cub"
    if root.name == "CUB_200_2011":
        root = root.parent
    archive = fetch(CUB.url, root / CUB.file, CUB.sha256, CUB.md5)
    return unpack(archive, "CUB_200_2011", root)


def ensure_cub_masks(cub: str | os.PathLike) -> pathlib.Path:
    """Finds the segmentations folder of a CUB_200_2011 folder, or fetches it into that.

    Raises UserError as fetch and unpack do.
    """
    cub = pathlib.Path(cub)
    for place in (cub, cub.parent):
        if (place / "segmentations").is_dir():
            return place / "segmentations"
    archive = fetch(CUB_MASKS.url, cub / CUB_MASKS.file, CUB_MASKS.sha256, CUB_MASKS.md5)
    return unpack(archive, "segmentations", cub)
