"""What a run's report shows: collected while it is scored, written as a page after that."""

import json
import operator
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.base.text import printable
from wsol_jax.base.typed import as_typed
from wsol_jax.data import transforms
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.pseudo_labels import LabelFolder, open_labels, parse_labels, summary_path
from wsol_jax.data.records import Source
from wsol_jax.evaluate.run import Evaluated
from wsol_jax.evaluate.segments import segment_card
from wsol_jax.evaluate.shown import WORST_SHARE, Card, drawn
from wsol_jax.methods import Classes, Picture
from wsol_jax.report import cases, encode, overlays, page, saved, staged, tables
from wsol_jax.report.curves import report_curves
from wsol_jax.report.example import PHOTO_SIDE, Example, Run
from wsol_jax.report.stage_strips import strips
from wsol_jax.report.strips import LABELS
from wsol_jax.runs.opened import Network, OpenedRun


def collect(
    run: OpenedRun,
    workdir: pathlib.Path,
    evaluated: Evaluated,
    maps: Network | None = None,
    labels: Mapping[str, LabelFolder] = types.MappingProxyType({}),
) -> None:
    """Stores what the page needs: the cards of each test list, and of the training list's labels.

    Of class maps every image's is kept too, small: which images two runs differ on is
    known only later.

    Args:
      maps: of a segmenter: the network whose class maps its labels grew from.
      labels: of a run in stages: what its label stages left, by stage. Of several, all are shown.
    """
    threshold = evaluated.figures["threshold"]
    kind, examples = evaluated.kind, []
    totals = {name: len(results) for name, results in evaluated.scored.items()}
    for name, results in evaluated.scored.items():
        source = run.lists.tests[name]
        if not kind.draws:  # pages of several runs compare maps, or the segmentations drawn
            _keep_maps(run, workdir, name, source, results.true_maps)
        cards = kind.cards(source, results, threshold)
        pictures = guidance_pictures(run, source, [card.index for card in cards])
        pairs = zip(cards, pictures, strict=True)
        examples += [_example(source, card, more) for card, more in pairs]
    trained: list[Example] = []
    if kind.draws and len(labels) > 1:
        trained = strips(run.lists.train, labels, maps, run.config.eval.gallery)
    elif kind.draws:
        trained = [_example(run.lists.train, card, {}) for card in _label_cards(run, workdir)]
    totals |= {example.split: len(run.lists.train) for example in trained}
    examples += trained
    classes = run.lists.class_names if kind.draws else ()
    shown = Run({}, examples, threshold, classes=classes, totals=totals)
    saved.save(str(workdir / saved.FILE), shown)


def _keep_maps(run: OpenedRun, workdir: pathlib.Path, name: str, source: Source, maps) -> None:
    """Every image's raw map of a list, or none where no gallery is wanted."""
    kept = workdir / cases.FOLDER / f"{name}.npz"
    if run.config.eval.gallery:
        cases.save_maps(kept, [source[index].image_id for index in maps], maps.values())
    else:
        kept.unlink(missing_ok=True)  # an earlier evaluation's would stand beside new figures


def _label_cards(run: OpenedRun, workdir: pathlib.Path) -> list[Card]:
    """Some training images with the pixel classes that a segmenter was trained on.

    Beside a stage's own folder there are none.
    """
    source, cards, wanted = run.lists.train, [], run.config.eval.gallery
    for stage, name in parse_labels(run.config.labels).values():
        if not summary_path(workdir / stage).is_file():
            continue
        folder = open_labels(workdir / stage)
        if not folder.products[folder.product(name)].holds_classes:
            continue
        for index in sorted(drawn(source, wanted))[: wanted // 3]:
            image_id = source[index].image_id
            if not folder.path(image_id, name).is_file():
                continue
            labels = folder.read(image_id, name)
            labelled = (labels != UNLABELLED).astype(np.float32)
            split = f"{source.name}: {stage}{'/' * bool(name)}{name}"
            layers = {LABELS: labels}
            cards.append(segment_card(source, index, layers, labelled, None, split))
    return cards


def _example(source: Source, card: Card, pictures: Mapping[str, Picture]) -> Example:
    """A card with its photo, its segmentations and the pictures of classes painted over it."""
    record = source[card.index]
    labels = tuple(source.class_names[c] for c in record.labels)
    image = encode.shrink(decode_rgb(record.image, record.image_id), PHOTO_SIDE)
    shown = {**{name: Classes(x) for name, x in card.layers.items()}, **pictures}
    for name, picture in shown.items():
        if isinstance(picture, Classes):
            shown[name] = overlays.paint_classes(image, picture.labels)
    return Example(
        image_id=record.image_id,
        image=image,
        score_map=card.score_map,
        true_boxes=card.true_boxes,
        box=card.box,
        iou=card.iou,
        # Of several, the map is the first one's.
        label=", ".join(labels),
        labels=labels,
        predicted=", ".join(card.predicted),
        pictures=shown,
        split=card.split,
        score=card.score,
    )


def guidance_pictures(
    run: OpenedRun, source: Source, indices: Sequence[int]
) -> list[dict[str, Picture]]:
    """The pictures of the method's loss (SPG's masks, say) for some images of a list.

    They go through in batches of the training's size: where normalisation takes its statistics from
    the batch, a single image would give masks that training never saw.
    """
    config, method = run.config, run.method
    variables = jax.tree.map(np.asarray, run.variables)

    names: list[str] = []

    def pictures_of(variables, batch):
        _, aux = method.loss(variables, batch, jax.random.key(0), jnp.int32(2**30))
        names[:] = aux.pictures  # a dict that leaves a traced function comes out sorted
        return aux.pictures

    call, found = jax.jit(pictures_of), []
    for start in range(0, len(indices), config.train.batch_size):
        some = indices[start : start + config.train.batch_size]
        batch = _warped(run, source, some)
        if not jax.eval_shape(pictures_of, variables, batch):  # nothing is compiled for none
            return [{} for _ in indices]
        values = jax.device_get(call(variables, batch))
        of_row = map(operator.itemgetter, range(len(some)))
        found += [{name: jax.tree.map(row, values[name]) for name in names} for row in of_row]
    return found


def _warped(run: OpenedRun, source: Source, indices: Sequence[int]) -> dict[str, np.ndarray]:
    """A batch as the method's loss takes it, of whole photos, without pseudo-labels."""
    size, rows = run.config.data.crop, len(indices)
    images = np.zeros((rows, size, size, 3), np.uint8)
    labels = np.zeros((rows, len(source.class_names)), np.float32)
    for row, index in enumerate(indices):
        record = source[index]
        image = decode_rgb(record.image, record.image_id)
        images[row] = transforms.resize(image, size, size)
        labels[row, list(record.labels)] = 1
    batch = {"image": images, "labels": labels, "valid": np.ones(rows, bool)}
    for name, spec in run.method.wants.items():  # nobody has made any of these images
        batch[name] = np.full((rows, *spec.shape), spec.fill, spec.dtype)
    return batch


def write_page(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    figures: dict[str, Any],
    stages: Sequence[str] = (),
) -> None:
    """report.html from what ``collect`` stored and the figures; prints them as a table.

    ``stages``: whose folders hold the curves; none where the workdir itself does.
    """
    run = saved.load(str(workdir))
    title = f"{config.method.upper().replace('_', '-')} on {config.data.name}"
    tests = config.data.test.strip("+").replace("+", ", ")
    data = f"{config.data.name}: {config.data.train} / {config.data.tune or '-'} / {tests}"
    lists = max(len({example.split for example in run.examples}), 1)
    worst = round(config.eval.gallery * WORST_SHARE)  # as ``shown.choose`` took them
    page.write_report(
        workdir / "report.html",
        title=title,
        config_text=json.dumps(config.to_dict(), indent=1),
        figures=figures,
        curves=report_curves(workdir, stages),
        examples=run.examples,
        classes=run.classes,
        threshold=figures["threshold"],
        scores=cases.load_scores(workdir, figures["test"]),
        worst=worst * lists,
        sample=(config.eval.gallery - worst) * lists,
        totals=run.totals,
        facts={
            "Method": config.method,
            "Backbone": f"{config.model.backbone}, width {config.model.width:g}",
            "Data": data,
            "Steps": str(figures.get("steps", "")),
        },
    )
    columns = page.with_parts(figures, words={})
    print(tables.text_table(columns))
    for sentence in tables.remarks(columns):
        print(printable(sentence))
    if by_stage := staged.text_table(figures):
        print(f"\n{by_stage}\n")
    if "map_thresholds" in figures:
        chosen = figures["map_thresholds"]
        print(f"class maps cut at {chosen['share']:g} of their peak, ", end="")
        print(f"where the class score is above {chosen['presence']:g}")
    elif not run.classes:
        print(f"box threshold {figures['threshold']:.3f} ({figures['threshold_from']})")
    shown = as_typed(str(workdir))
    print(f"figures: {shown}/metrics.json\nreport:  {shown}/report.html")
