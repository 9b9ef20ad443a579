"""A run's folder: which config it belongs to, and how later modes find it again."""

import json
import os
import pathlib
from collections.abc import Collection

import jax
import ml_collections

from wsol_jax.base import fields
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside, write_whole
from wsol_jax.base.stored import read_json, reading
from wsol_jax.base.types import Config, Json
from wsol_jax.runs import older

CONFIG = "config.json"
# What a run writes into its folder.
_WRITTEN = ("history.jsonl", "metrics.json", "report.html", "report_data.npz")
_WRITTEN += ("checkpoints", "tensorboard", "scores")

# May differ when a run goes on: where things lie, how fast they are read, how they are scored. A
# method's own fields of that kind stand in its config's ``free``.
_FREE = ("data.root", "data.workers", "data.threads", "data.max_corrupt", "data.test", "data.boxes")
_FREE += ("data.labels", "data.coco", "data.masks", "data.strict", "early", "free")
_FREE += ("model.weights", "features.weights", "train.log_every", "train.keep")
_FREE += ("train.checkpoint_steps", "train.checksum", "eval", "settled", "before")


def _flat(config: Config | dict[str, Json], prefix: str = "") -> dict[str, Json]:
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict | ml_collections.ConfigDict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def claim(workdir: pathlib.Path, config: Config, class_names: tuple[str, ...]) -> None:
    """Writes the config into a new folder, or checks that the folder's run is this config's.

    A folder counts as new as long as it holds no checkpoint.

    Raises:
      UserError: the folder cannot be made, or it holds a run of another config or other classes;
        the first differing field is named.
    """
    # A run that saved nothing (a wrong weights file, say) holds the folder against nobody.
    if not has_begun(workdir):
        write(workdir, config, class_names)
        return
    before, names = _load(workdir)
    name = difference(before, config)
    if name:
        values = (_flat(side).get(name) for side in (before, config))
        raise UserError(
            "--workdir={} holds a run with {}={!r}, but this config has {!r}: take another "
            "workdir, or that config.".format(workdir, name, *values)
        )
    if tuple(names) != tuple(class_names):
        raise UserError(
            f"--workdir={workdir} holds a run on other classes ({len(names)}: "
            f"{', '.join(names[:3])}, ...) than the data has now ({len(class_names)})."
        )


def difference(before: Config | dict[str, Json], now: Config | dict[str, Json]) -> str:
    """The first field in which two configs train differently; "" where they train the same."""
    free = (*_FREE, *now.get("free", ()), *before.get("free", ()))
    a, b = _flat(before), _flat(now)
    for name in sorted(set(a) | set(b)):
        is_free = any(name == field or name.startswith(f"{field}.") for field in free)
        if not is_free and a.get(name) != b.get(name):
            return name
    return ""


def check_there(workdir: pathlib.Path) -> None:
    """Raises UserError where a run's folder was removed while the run went on."""
    if jax.process_index() == 0 and not (workdir / CONFIG).is_file():
        raise UserError(
            f"{workdir / CONFIG} was removed while the run wrote to its folder: it stops."
        )


def check_ours(workdir: pathlib.Path) -> None:
    """Raises UserError where a folder holds what looks like a run's, but no run of this package.

    What is there would be overwritten.
    """
    if (workdir / CONFIG).is_file():
        _load(workdir)  # says so where it is not a run's
        return
    check_names([name for name in _WRITTEN if (workdir / name).exists()], f"--workdir={workdir}")


def check_names(names: Collection[str], where: str) -> None:
    """Raises UserError where a folder without a run's config holds what a run would overwrite.

    Args:
      names: of what lies there. where: names the folder.
    """
    for name in _WRITTEN:
        if name in names:
            raise UserError(
                f"{where} holds {name}, which would be overwritten, and no run's {CONFIG}: take "
                "another workdir, or move that away."
            )


def write(workdir: pathlib.Path, config: Config, class_names: tuple[str, ...]) -> None:
    """Writes config.json in place of one that was there.

    Raises:
      UserError: the folder cannot be made or written, or holds files of something else.
    """
    if jax.process_index() != 0:
        return
    check_ours(workdir)
    content = {"config": config.to_dict(), "class_names": list(class_names)}
    try:
        write_whole(workdir / CONFIG, json.dumps(content, indent=1))
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be written: {error.strerror}.") from None


def network_folder(workdir: pathlib.Path) -> pathlib.Path:
    """Where a run's network lies: its folder, or that of the last stage that has one.

    A run that is not done may have no last network yet: then the one before it of the same method,
    if any (of MCOF the last round's PixelNet and no RegionNet), or else the latest.

    Raises:
      UserError: the folder holds no run.
    """
    config, _ = load(workdir)
    # A run of a time before stages has no such field.
    names = [n for n in config.get("stages", ()) if n in config.get("stage", {})]
    method_of = {n: config.stage[n].get("method") for n in names}
    trainings = [n for n in names if not config.stage[n].get("labeller")]
    there = [n for n in trainings if has_checkpoint(workdir / n)]
    alike = [n for n in there if method_of[n] == method_of[trainings[-1]]]
    return workdir / [*there, *alike][-1] if there else workdir


def latest_step(workdir: pathlib.Path) -> int | None:
    """The step of the newest whole checkpoint of this folder; None where none is saved."""
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdecimal()), default=None)


def kept(workdir: pathlib.Path) -> str:
    """A sentence of what a run has saved whole, for whoever runs its command again."""
    try:
        places = [workdir, *(x for x in workdir.iterdir() if x.is_dir())]
        steps = [(latest_step(place), place) for place in places if has_checkpoint(place)]
        step, place = max(steps, key=lambda x: (x[1] / "checkpoints").stat().st_mtime)
    except (OSError, ValueError):  # no folder, or none with a checkpoint
        return "No checkpoint was saved yet."
    return f"Step {step} in {place} is whole and kept; the same command goes on from there."


def has_begun(workdir: pathlib.Path) -> bool:
    """Whether a run holds this folder: its config lies there, and it has saved something whole.

    Raises:
      UserError: its config.json is damaged.
    """
    return (workdir / CONFIG).is_file() and has_checkpoint(network_folder(workdir))


def has_checkpoint(workdir: pathlib.Path) -> bool:
    """Whether a run has saved anything whole in this folder."""
    return latest_step(workdir) is not None


def _load(workdir: pathlib.Path) -> tuple[dict[str, Json], list[str]]:
    path = workdir / CONFIG
    if not path.is_file():
        raise UserError(f"--workdir={workdir} holds no run: {path} is missing. Train there first.")
    again = "it is not a run's config, put back the one that the run was trained by"
    with reading(path, again):
        content = read_json(path, again)
        for name in filter(None, ("stage", *older.NEWER)):
            if not isinstance(content["config"].get(name, {}), dict):
                raise UserError(f"{path}: config.{name}: expected a section.")
        config, names = older.with_newer_fields(content["config"]), content["class_names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path}: class_names: expected a list of names.")
        if len(set(names)) < len(names):
            raise UserError(f"{path}: class_names: one is there twice.")
    fields.check(config, f"{path}: config.")
    _check_stages(config, path)
    return config, names


def _check_stages(config: dict[str, Json], path: pathlib.Path) -> None:
    """Raises UserError where a stage is no folder's name, or has no section."""
    for name in config["stages"]:
        check_inside(name, f"{path}: config.stages")
        if name != "evaluate" and not isinstance(config["stage"].get(name), dict):
            raise UserError(f"{path}: config.stages: {name!r} has no section in config.stage.")


def load_to_run(workdir: pathlib.Path) -> tuple[ml_collections.ConfigDict, tuple[str, ...]]:
    """What ``load`` gives, to build the run's methods from.

    A folder is data, a stranger's too: a method of a module outside this package is Python that
    the folder names, and is refused unless $WSOL_JAX_TRUST names its module.

    Raises:
      UserError: as ``load``; such a method.
    """
    config, names = load(workdir)
    trusted = os.environ.get("WSOL_JAX_TRUST", "").split(",")
    for section in (config, *config.stage.values()):
        module = str(section.get("method", "")).rpartition(".")[0]
        if module and module not in trusted:
            raise UserError(
                f"{workdir / CONFIG}: method {section.method!r} is code outside wsol_jax, which a "
                f"folder does not start by itself: set WSOL_JAX_TRUST={module} if you know it."
            )
    return config, names


def load(workdir: pathlib.Path) -> tuple[ml_collections.ConfigDict, tuple[str, ...]]:
    """The config and class names of a finished or unfinished run.

    Raises:
      UserError: the folder holds no run.
    """
    config, names = _load(pathlib.Path(workdir))
    return ml_collections.ConfigDict(config, convert_dict=True).lock(), tuple(names)
