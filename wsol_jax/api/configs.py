"""A config by its file's name and the words behind it, as ``--config`` reads it."""

import importlib.util
import os
import pathlib
import re
import sys
import types
from collections.abc import Iterable, Mapping

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config, Json

_BESIDE = pathlib.Path(__file__).parents[2]


def read_config(words: str, own: bool = False) -> Config:
    """The config of "configs/spg.py:folder,root=photos"; the file is run as Python.

    A file that is not found from here is looked for beside the installed package; ``own``: there
    alone.

    Raises:
      UserError: no such file, one that is no config, or words that it does not know.
    """
    path, _, argument = str(words).partition(":")
    module = _module(_BESIDE / path if own else _find(path), path)
    if not callable(getattr(module, "get_config", None)):
        raise UserError(
            f"config={path}: expected a file with get_config(), such as configs/cam.py."
        )
    try:
        return module.get_config(argument)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"config={words}: {error}") from error


def override(config: Config, fields: Mapping[str, Json]) -> None:
    """Sets fields by their paths, as ``--config.PATH=VALUE`` does.

    Raises:
      UserError: an unknown field, a value of another type, or a field that decides others.
    """
    check_overrides(fields, config.get("early", ()))
    for name, value in fields.items():
        try:
            config.update_from_flattened_dict({name: value})
        except (KeyError, AttributeError) as error:
            near = re.search(r"Did you mean \W?(\w+)", str(error))
            hint = f"; did you mean {near[1]!r}?" if near else "."
            raise UserError(f"overrides: no field {name!r}{hint}") from None
        except TypeError as error:
            raise UserError(f"overrides: {name}={value!r}: {error}") from None


def check_overrides(fields: Iterable[str], early: Iterable[str]) -> None:
    """Raises UserError for fields that decide others: an override comes after those were chosen."""
    words = {field: f"{field.rpartition('.')[2]}=..." for field in early}
    words["data.name"] = "the data set"
    for field in fields:
        if field in words:
            raise UserError(
                f"--config.{field} comes too late, other fields follow from it: write "
                f"{words[field]} after the config's path, e.g. "
                "--config=configs/spg.py:cub,recipe=released"
            )


def _find(path: str) -> pathlib.Path:
    for place in (pathlib.Path(path), _BESIDE / path):
        if place.is_file():
            return place
    known = sorted(
        x.name for x in (_BESIDE / "configs").glob("*.py") if "get_config" in x.read_text()
    )
    raise UserError(f"config={path}: there is no such file; in configs/: {', '.join(known)}.")


def _module(place: pathlib.Path, path: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"wsol_jax_config_{place.stem}", os.fspath(place))
    if spec is None or spec.loader is None:
        raise UserError(f"config={path}: expected a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(place.resolve().parents[1]))  # where its "configs" is imported from
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise UserError(f"config={path}: {error}") from error
    finally:
        del sys.path[0]
    return module
