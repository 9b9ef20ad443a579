"""The ``:DATASET,key=value,...`` after a config's path."""

import difflib
from collections.abc import Iterable, Mapping

import ml_collections

from wsol_jax.base import fields
from wsol_jax.base.errors import UserError
from wsol_jax.data import sources

# What may stand after the data set's name, and the field that it sets.
KEYS = {
    "root": "data.root",
    "train": "data.train",
    "tune": "data.tune",
    "test": "data.test",
    "boxes": "data.boxes",
    "labels": "data.labels",
    "coco": "data.coco",
    "masks": "data.masks",
    "layout": "data.layout",
    "multi_label": "data.multi_label",
    "strict": "data.strict",
    "parts": "data.parts",
    "backbone": "model.backbone",
    "weights": "model.weights",
    "width": "model.width",
    "output_stride": "model.output_stride",
    "size": "data.crop",
    "batch": "train.batch_size",
    "accumulate": "train.accumulate",
    "epochs": "train.epochs",
    "lr": "optimizer.backbone_lr",
    "seed": "seed",
    "dtype": "dtype",
    "recipe": "recipe",
}


def check_name(kind: str, name: str, known: Iterable[str], where: str = "config") -> None:
    """Checks that a name is a known one.

    Args:
      kind: what it names, such as "backbone".
      where: begins the sentence that refuses it.

    Raises:
      UserError: it is none; the sentence has the known name that is like it, or all of them.
    """
    known = list(known)
    if name in known:
        return
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    end = f"; did you mean {close[0]!r}?" if close else f"; expected {', '.join(known)}."
    raise UserError(f"{where}: no {kind} {name!r}{end}")


def _value(text: str, kind: type, key: str):
    """Converts a key's text to the type of its field."""
    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        raise UserError(
            f"config key {key}={text}: expected {words.get(kind, kind.__name__)}."
        ) from None


def parse(
    arg: str, keys: Mapping[str, str] | None = None, default: str = "cub"
) -> tuple[str, dict[str, str]]:
    """Splits ``DATASET,key=value,...``; the data set may be left out.

    Args:
      keys: what may stand after this method's data set beside KEYS, and the fields it sets.
      default: the data set where none is named.

    Raises:
      UserError: an unknown data set or key (with the nearest known name, or all), a key twice,
        or a word without "=".
    """
    words = [word for word in arg.split(",") if word]
    name = words.pop(0) if words and "=" not in words[0] else default
    known = {**KEYS, **(keys or {})}
    check_name("data set", name, sources.DATASETS)
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"config: {word!r} after the data set should read key=value.")
        check_name("key", key, known)
        if key in pairs:
            raise UserError(f"config: the key {key!r} stands twice after the data set.")
        pairs[key] = value
    return name, pairs


def apply(
    config: ml_collections.ConfigDict,
    pairs: dict[str, str],
    keys: Mapping[str, str] | None = None,
) -> None:
    """Writes the ``key=value`` pairs into their fields; ``keys`` as for ``parse``.

    A ``size`` scales the resize before the crop with it, so that a crop shows as much of the photo
    as the recipe's does.
    """
    proportion = config.data.resize / config.data.crop
    for key, text in pairs.items():
        path = {**KEYS, **(keys or {})}[key]
        *sections, field = path.split(".")
        section = config
        for name in sections:
            section = section[name]
        section[field] = _value(text, section.get_type(field), key)
        fields.check_value(path, section[field], f"config key {key}={text}")
    if "size" in pairs:
        config.data.resize = round(config.data.crop * proportion)
