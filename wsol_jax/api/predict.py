"""``--mode=predict``: any folder of photos -> classes, boxes, masks, heat maps and overlays."""

import json
import pathlib
import shlex
import time
from collections.abc import Sequence

import numpy as np
from absl import logging

from wsol_jax.api import answer, coco, photos
from wsol_jax.api.model import Model, load
from wsol_jax.api.result import Result, write
from wsol_jax.api.voc_server import Submission
from wsol_jax.base.errors import UserError
from wsol_jax.base.typed import as_typed
from wsol_jax.base.types import Json
from wsol_jax.report import encode, overlays, page
from wsol_jax.report.example import PHOTO_SIDE, Example
from wsol_jax.runs import workdirs

_SHOWN = 48  # photos on the page
_DRAWN = (
    "A card draws the likeliest class and its largest region; predictions.json, overlays and masks "
    "have all that was found."
)
# What ``Result.save`` leaves of a photo, as a card links it.
_FILES = (
    ("heat map", "heatmaps", ".png"),
    ("overlay", "overlays", ".jpg"),
    ("mask", "masks", ".png"),
)


def predict(
    workdir: pathlib.Path,
    images: pathlib.Path,
    out: pathlib.Path,
    *,
    threshold: float | None = None,
    boxes: str = "largest",
    min_score: float | None = None,
    classes: Sequence[str] = (),
    checkpoint: str = "",
    voc_server: str = "",
) -> dict[str, Json]:
    """Finds what is in every photo, and writes it down.

    Writes, below ``out``: ``predictions.json`` in COCO's layout (bbox is x, y, width, height in the
    photo's pixels, EXIF orientation applied; segmentation is a mask in run lengths; score is the
    class's probability; each image also has its five likeliest classes), the pictures of
    ``Result.save``, and ``index.html``, a page with a slider over the box threshold.

    Args:
      workdir: of a trained run.
      images: a folder, searched with its sub-folders, or one photo.
      out: made if absent; files of the same names are replaced.
      threshold, boxes, min_score, classes: as for a call of ``Model``.
      checkpoint: as for ``load``.
      voc_server: "comp6" or "comp5": ``images`` is a VOC folder, the photos are those of its list
        test, and their masks are written as VOC's evaluation server takes them, too; see
        ``voc_server.Submission.of``.

    Returns:
      predictions.json's content.

    Raises:
      UserError: no run, no photos, more unreadable ones than data.max_corrupt, an option out of
        its range, a run whose classes the server does not know, or ``out`` refuses.
    """
    options = {"boxes": boxes, "min_score": min_score, "classes": classes}
    _, class_names = workdirs.load(workdir)  # mistakes are told before the network is restored
    answer.wanted(class_names, False, 0.0 if threshold is None else threshold, **options)
    handed_in = Submission.of(voc_server, class_names) if voc_server else None
    if handed_in:
        source = handed_in.photos(images, class_names)
    else:
        source = photos.find(images, class_names, f"--images={images}")
    model = load(workdir, checkpoint=checkpoint)
    wanted = model.wanted(threshold, **options)
    method = model.config.method
    logging.info("%s at step %d, box threshold %.3f", method, model.step, wanted.threshold)
    content: coco.Content = {"images": [], "annotations": []}
    start, shown = time.monotonic(), []

    def work(result: Result):
        result.save(out)
        if handed_in:
            handed_in.write(out, result)
        example = _example(result) if result.name in first else None
        return result.coco_entries(), example

    first = {record.image_id for record in source.records[:_SHOWN]}
    for entries, example in model.each(source, wanted, work, what="predict"):
        coco.append(content, *entries)
        shown += [example] if example else []
    seconds = time.monotonic() - start
    count = len(content["images"])
    if not count:
        raise UserError(f"--images={images}: none of its {len(source)} photos can be read.")
    info = {
        "description": f"wsol_jax {method}, {as_typed(str(workdir))}, step {model.step}",
        "threshold": wanted.threshold,
        "boxes": wanted.boxes,
        "min_score": wanted.min_score,
        "classes": list(classes),
    }
    whole = {"info": info, **content, "categories": coco.categories(model.class_names)}
    write(out / "predictions.json", json.dumps(whole, indent=1), "--out: ")
    skipped = len(source) - count
    places = {"workdir": workdir, "images": images, "out": out}
    places = {name: as_typed(str(place)) for name, place in places.items()}
    asked = {"boxes": boxes if boxes != "largest" else "", "classes": ",".join(classes)}
    asked |= {"checkpoint": checkpoint, "voc_server": voc_server}
    asked["min_score"] = "" if min_score is None else min_score
    places |= {name: value for name, value in asked.items() if value != ""}
    words = [f"--{name}={shlex.quote(str(place))}" for name, place in places.items()]
    command = " ".join(["python -m wsol_jax.main --mode=predict", *words])
    command += " --threshold={threshold}"
    _write_page(out, model, wanted.threshold, shown, count, skipped, command)
    rate = f"{seconds:.1f} s, {count / seconds:.1f} a second"
    shown = as_typed(str(out))
    print(f"{count} photos ({rate}) -> {shown}/predictions.json, {shown}/index.html")
    if handed_in:
        print(f"masks for VOC's server -> {shown}/{handed_in.folder}")
    if skipped:
        print(f"{skipped} could not be read; their names stand above")
    return whole


def _write_page(
    out: pathlib.Path,
    model: Model,
    threshold: float,
    shown: Sequence[Example],
    count: int,
    skipped: int,
    command: str,
) -> None:
    """``command``: that makes these files, with "{threshold}" in it for the slider's."""
    segmented = any("segmentation" in example.pictures for example in shown)
    facts = {
        "Run": as_typed(str(model.workdir)),
        "Method": model.config.method,
        "Step": str(model.step),
    }
    page.write_report(
        out / "index.html",
        title=f"{count} photos",
        config_text=json.dumps(model.config.to_dict(), indent=1),
        figures={"test": {}},
        curves={},
        examples=shown,
        threshold=threshold,
        worst=0,
        sample=_SHOWN,
        totals={"Photos": count},
        drawn="the first by name",
        command=command,
        facts=facts,
        classes=model.class_names if segmented else (),
        notes=[_DRAWN, *([f"{skipped} unreadable photos were skipped."] if skipped else [])],
    )


def _example(result: Result) -> Example:
    """What the page shows of a photo: its likeliest class's map, and its first box."""
    image = encode.shrink(result.image, PHOTO_SIDE)  # 48 photos of 12 megapixels would be 1.7 GB
    found, pictures = "", {}
    if result.segmentation is not None:
        pictures["segmentation"] = overlays.paint_classes(image, result.mask)
        found = ", ".join(result.class_names[c - 1] for c in np.unique(result.mask) if c)
    own = result.boxes[result.box_classes == result.best]
    return Example(
        image_id=result.name,
        image=image,
        score_map=result.score_maps[result.best],
        true_boxes=np.zeros((0, 4)),
        box=own[0] / np.array([*result.size, *result.size]) if len(own) else None,
        iou=None,
        label=found,
        predicted=found or ", ".join(result.labels) or "none",
        pictures=pictures,
        split="Photos",
        score=None if found else float(result.score),
        files={name: f"{place}/{result.name}{suffix}" for name, place, suffix in _FILES},
    )
