"""metrics.json: the figures of a run, or of a stage of it, written and read again."""

import math
import pathlib
from collections.abc import Mapping

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside
from wsol_jax.base.stored import read_json, write_sealed
from wsol_jax.base.types import Json
from wsol_jax.metrics.boxes import THRESHOLDS

FILE = "metrics.json"
AGAIN = "--mode=evaluate on its folder makes it again"

# Fields whose values are looked at wherever they stand.
_NUMBERS = ("steps", "seconds", "train_seconds", "images_per_second", "images", "changed")
_SECTIONS = ("test", "tune", "parts", "stages")  # of sections by name
_TABLES = ("intervals_95", "labels")


def write(folder: pathlib.Path, figures: Mapping[str, Json]) -> None:
    """Writes a folder's metrics.json, so that a changed byte of it is noticed. Raises OSError."""
    write_sealed(folder / FILE, figures)


def read(folder: pathlib.Path, again: str = AGAIN) -> dict[str, Json] | None:
    """The content of a folder's metrics.json; None where there is none.

    Args:
      again: what makes it anew, as the end of a sentence.

    Raises:
      UserError: it is damaged, or a field is of another type.
    """
    path = pathlib.Path(folder) / FILE
    if not path.is_file():
        return None
    figures = read_json(path, again)
    check(figures, f"{path}: ")
    return figures


def explanation(figures: Mapping[str, Json]) -> tuple[str, str]:
    """Name and layer of the explanation that a run was scored by; "" for its own class maps."""
    said = figures.get("explain")
    said = said if isinstance(said, dict) else {}
    return str(said.get("name", "")), str(said.get("layer", ""))


def read_finished(folder: pathlib.Path) -> dict[str, Json] | None:
    """The same of a run that was scored: it has test lists and a box threshold.

    Raises:
      UserError: as ``read``, or it lacks these.
    """
    figures = read(folder)
    path = pathlib.Path(folder) / FILE
    for part, own in {"": figures, **figures.get("parts", {})}.items() if figures else ():
        where = f"{path}: {f'parts.{part}.' if part else ''}"
        for name in ("test", "threshold"):
            if name not in own and not (part and "test" not in own):  # tuned, and not scored
                raise UserError(f"{where}{name} is missing: {AGAIN}.")
    return figures


def check(figures: Json, where: str) -> None:
    """Raises UserError for figures that are not such as a run writes; ``where``: a file."""
    if not isinstance(figures, dict):
        raise UserError(f"{where}expected figures by name, got {str(figures)[:80]!r}.")
    for name, value in figures.items():
        if name in _SECTIONS:
            _check_sections(value, f"{where}{name}")
        elif name in _TABLES and not isinstance(value, dict):
            raise UserError(f"{where}{name}: expected fields by name, got {str(value)[:80]!r}.")
        elif name == "by_class":
            _check_classes(value, f"{where}{name}")
        elif name in _NUMBERS and not (value is None or _is_number(value)):
            raise UserError(f"{where}{name}: expected a number, got {str(value)[:80]!r}.")
        elif name == "threshold":
            _check_threshold(value, where)


def _check_sections(value: Json, where: str) -> None:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected sections by name, got {str(value)[:80]!r}.")
    for name, section in value.items():
        check_inside(f"{name}.npz", where)  # lists and parts have files of their names
        check(section, f"{where}.{name}.")


def _check_classes(value: Json, where: str) -> None:
    found = value if isinstance(value, dict) else {"": value}
    for name, table in found.items():  # labels' have the classes alone, a list's by figure
        if not all(map(_is_number, table.values() if isinstance(table, dict) else [table])):
            raise UserError(f"{where}.{name}: expected numbers by class.")


def _check_threshold(value: Json, where: str) -> None:
    if not _is_number(value) or np.abs(np.asarray(THRESHOLDS) - value).min() > 1e-9:
        raise UserError(
            f"{where}threshold: expected one of the {len(THRESHOLDS)} from {min(THRESHOLDS):g} to "
            f"{max(THRESHOLDS):g}, got {str(value)[:80]}."
        )


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
