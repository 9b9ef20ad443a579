"""Which images a run's report shows, with their maps, boxes and guidance masks."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.data import transforms
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.lists import Lists
from wsol_jax.data.pseudo_labels import UNLABELLED, open_labels, parse_labels
from wsol_jax.data.records import Record, Source
from wsol_jax.evaluate import segmenting
from wsol_jax.evaluate.scores import Scores
from wsol_jax.evaluate.scoring import true_boxes
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.evaluate.shown import drawn, select_examples
from wsol_jax.methods import Method
from wsol_jax.metrics.boxes import boxes_from_score_map, iou
from wsol_jax.metrics.maps import MAP_SIZE, prepare_map
from wsol_jax.report import cases, encode, overlays, page, saved, tables
from wsol_jax.report.example import PHOTO_SIDE, Example, Run
from wsol_jax.runs import workdirs
from wsol_jax.runs.history import curves

_WORST_SHARE = 1 / 3


def _example(
    source: Source, index: int, raw_map: np.ndarray, predicted: int, threshold: float, split: str
) -> Example:
    record = source[index]
    image = decode_rgb(record.image, record.image_id)
    size = image.shape[1::-1]
    score_map = prepare_map(raw_map)
    box = boxes_from_score_map(score_map, [threshold])[0, 0]
    boxes, labels = true_boxes(source, index, size)
    own = boxes[labels == record.labels[0]]
    scale = np.array([*size, *size], np.float64)
    return Example(
        image_id=record.image_id,
        image=encode.shrink(image, PHOTO_SIDE),
        score_map=score_map,
        true_boxes=np.asarray(record.boxes, np.float64).reshape(-1, 4) / scale,
        box=box / MAP_SIZE,
        iou=float(iou(box[None], own).max()) if len(own) else None,
        # The map is the first one's.
        label=", ".join(source.class_names[c] for c in record.labels),
        predicted=source.class_names[predicted],
        split=split,
    )


def guidance_pictures(
    config: Any, method: Method, variables: Any, source: Source, indices: list[int]
) -> list[dict[str, np.ndarray]]:
    """The pictures of the method's loss (SPG's masks, say) for some images of a list.

    They go through in batches of the training's size: where normalisation takes its statistics from
    the batch, a single image would give masks that training never saw.
    """
    size = config.data.crop
    names: list[str] = []

    @jax.jit
    def call(variables, batch):
        _, aux = method.loss(variables, batch, jax.random.key(0), jnp.int32(2**30))
        names[:] = aux.pictures  # a dict that leaves jit comes out sorted
        return tuple(aux.pictures.values())

    found = []
    for start in range(0, len(indices), config.train.batch_size):
        some = indices[start : start + config.train.batch_size]
        images = np.zeros((len(some), size, size, 3), np.uint8)
        labels = np.zeros((len(some), len(source.class_names)), np.float32)
        for row, index in enumerate(some):
            record = source[index]
            image = decode_rgb(record.image, record.image_id)
            images[row] = transforms.resize(image, size, size)
            labels[row, list(record.labels)] = 1
        batch = {"image": images, "labels": labels, "valid": np.ones(len(some), bool)}
        for name, spec in method.wants.items():  # nobody has made any of these images
            batch[name] = np.full((len(some), *spec.shape), spec.fill, spec.dtype)
        values = call(variables, batch)
        pictures = {name: np.asarray(x) for name, x in zip(names, values, strict=True)}
        found += [{name: x[row] for name, x in pictures.items()} for row in range(len(some))]
    return found


def collect(
    config: Any,
    workdir: pathlib.Path,
    method: Method,
    variables: Any,
    lists: Lists,
    scored: dict[str, Scores],
    threshold: float,
) -> None:
    """Chooses each list's worst images and a fixed draw, and stores what the page needs.

    Every image's map is kept too, small: which images two runs differ on is known only later.
    """
    examples = []
    wanted = config.eval.gallery
    local = jax.tree.map(lambda x: np.asarray(x), variables)
    for name, scores in scored.items():
        source, order = lists.tests[name], list(scores.true_maps)
        ids = [source[index].image_id for index in order]
        kept = workdir / cases.FOLDER / f"{name}.npz"
        if wanted:
            cases.save_maps(kept, ids, scores.true_maps.values())
        else:
            kept.unlink(missing_ok=True)  # an earlier evaluation's would stand beside new figures
        worst = round(wanted * _WORST_SHARE)
        known = dict(scores.ious.items())
        ious = [float(known[i]) if i in known else None for i in ids]
        chosen = select_examples(ids, ious, worst, wanted - worst)
        indices = [order[i] for i in dict.fromkeys([*chosen[0], *chosen[1]])]
        pictures = guidance_pictures(config, method, local, source, indices)
        for index, extra in zip(indices, pictures, strict=True):
            raw, predicted = scores.true_maps[index], scores.predicted[index]
            example = _example(source, index, raw, predicted, threshold, name)
            examples.append(Example(**{**vars(example), "pictures": extra}))
    saved.save(str(workdir / saved.FILE), Run({}, examples, threshold))


def collect_segmentations(
    config: Any,
    workdir: pathlib.Path,
    lists: Lists,
    scored: dict[str, SegmentationScores],
) -> None:
    """Stores what the page of a segmenter needs: each kind of segmentation over the photo, cues.

    Of the training list those that have labels are shown, with nothing else.
    """
    examples = []
    for name, scores in scored.items():
        source, known = lists.tests[name], dict(scores.ious.items())
        for index, labels in scores.labels.items():
            record, truth = source[index], source.mask(index)
            layers = {"truth": truth, "segmentation": labels}
            layers |= {_PART_NAMES[part]: own.labels[index] for part, own in scores.parts.items()}
            heat = scores.true_maps[index]
            examples.append(
                _segmented(record, source, heat, layers, name, float(known[record.image_id]))
            )
    for stage, name in parse_labels(config.labels).values():
        folder, source = open_labels(workdir / stage), lists.train
        if not folder.products[folder.product(name)].holds_classes:
            continue
        for index in sorted(drawn(config, source))[: config.eval.gallery // 3]:
            record = source[index]
            if not folder.path(record.image_id, name).is_file():
                continue
            cue = folder.read(record.image_id, name)
            labelled = (cue != UNLABELLED).astype(np.float32)
            split = f"{source.name}: {stage}"
            examples.append(_segmented(record, source, labelled, {"cues": cue}, split, None))
    saved.save(str(workdir / saved.FILE), Run({}, examples, 0.5))


_PART_NAMES = {segmenting.BEFORE_CRF: "before the CRF", segmenting.CAM: "thresholded class maps"}


def _segmented(
    record: Record,
    source: Source,
    heat: np.ndarray,
    layers: dict[str, np.ndarray],
    split: str,
    iou: float | None,
) -> Example:
    image = encode.shrink(decode_rgb(record.image, record.image_id), PHOTO_SIDE)
    painted = {int(c) for layer in layers.values() for c in np.unique(layer)}
    return Example(
        image_id=record.image_id,
        image=image,
        score_map=np.clip(np.asarray(heat, np.float32), 0, 1),
        true_boxes=np.zeros((0, 4)),
        box=None,
        iou=iou,
        label=", ".join(source.class_names[c] for c in record.labels),
        predicted=", ".join(source.class_names[c - 1] for c in sorted(painted - {0, 255})),
        pictures={name: overlays.paint_classes(image, x) for name, x in layers.items()},
        split=split,
    )


# The chart that each curve is drawn in; what is not named has a chart of its own.
_CHARTS = {
    "train/accuracy": "accuracy/train",
    "tune/top1_acc": "accuracy/tune",
    "tune/pxap": "localization on tune/PxAP",
    "tune/max_box_acc": "localization on tune/MaxBoxAcc",
    "train/loss": "loss/total",
    "train/classification": "loss/classification",
}


def report_curves(workdir: pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    """The run's curves, those of one scale under one heading."""
    named = {}
    for name, points in curves(workdir).items():
        plain = name.removeprefix("train/").replace("_", " ")
        guess = f"loss/{plain}" if plain.startswith("bce") else plain
        named[_CHARTS.get(name, guess)] = points
    return dict(sorted(named.items(), key=lambda item: "/" not in item[0]))


def _curves(workdir: pathlib.Path, stages: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    if not stages:
        return report_curves(workdir)
    found = {}
    for stage in stages:
        for name, points in report_curves(workdir / stage).items():
            heading, slash, curve = name.partition("/")
            found[f"{stage} \N{MIDDLE DOT} {heading}{slash}{curve}"] = points
    return found


def write_page(
    config: Any, workdir: pathlib.Path, figures: dict[str, Any], stages: Sequence[str] = ()
) -> None:
    """report.html from what ``collect`` stored and the figures; prints them as a table.

    ``stages``: whose folders hold the curves; none where the workdir itself does.
    """
    run = saved.load(str(workdir))
    title = f"{config.method.upper().replace('_', '-')} on {config.data.name}"
    multi = config.data.multi_label or figures.get("segments", False)
    names = workdirs.load(workdir)[1]
    data = f"{config.data.name}: {config.data.train} / {config.data.tune or '-'}"
    page.write_report(
        workdir / "report.html",
        title=title,
        config_text=json.dumps(config.to_dict(), indent=1),
        figures=figures,
        curves=_curves(workdir, stages),
        examples=run.examples,
        classes=names if figures.get("segments") else (),
        threshold=figures["threshold"],
        scores={} if multi else cases.load_scores(workdir, figures["test"]),
        worst=round(config.eval.gallery * _WORST_SHARE) * max(len(figures["test"]), 1),
        sample=config.eval.gallery * max(len(figures["test"]), 1),
        facts={
            "Method": config.method,
            "Backbone": f"{config.model.backbone}, width {config.model.width:g}",
            "Data": data,
            "Steps": str(figures.get("steps", "")),
        },
    )
    columns = page.with_parts(figures)
    print(tables.text_table(columns))
    if "map_thresholds" in figures:
        chosen = figures["map_thresholds"]
        print(f"class maps cut at {chosen['share']:g} of their peak, ", end="")
        print(f"where the class score is above {chosen['presence']:g}")
    elif not figures.get("segments"):
        print(f"box threshold {figures['threshold']:.3f} ({figures['threshold_from']})")
    print(f"figures: {workdir / 'metrics.json'}\nreport:  {workdir / 'report.html'}")
