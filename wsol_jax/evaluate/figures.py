"""The table of figures: what each is called, means, is measured against, and ranks by.

It feeds the page of a run, the comparison of runs, the choice of the best checkpoint on the tune
list, and the commands. A new figure is its metric, its place in a kind's results, a row here, and a
test.
"""

import dataclasses
from collections.abc import Collection, Mapping

SEGMENTATION = "Segmentation"
BOXES = "Boxes, at the run's one threshold"
BEST_BOXES = "Boxes, maximised over thresholds on the scored split itself"
DETECTION = "Boxes of all classes, ranked over the list"
PIXELS = "Pixels, over all thresholds"
PLACES = "Places: where the maps peak"
PARTS = "Telling parts: where the maps' mass lies"
CLASSES = "Classes"
# What a list must have for the figures of a heading; those of classes need its labels alone.
NEEDS = {
    SEGMENTATION: "masks",
    BOXES: "boxes",
    BEST_BOXES: "boxes",
    DETECTION: "boxes",
    PIXELS: "masks",
    PLACES: "boxes",
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure of a list.

    Attributes:
      key: in metrics.json.
      heading: of its group on a page; groups stand in the order of the table.
      label: its name on a page.
      meaning: in a few words, "" where the name says it.
      baseline: whether it bounds the others, or is no merit: never ranked, written in grey.
      headline: its name as a large tile; "" for none.
      against: the baseline that a tile's figure has to beat; "" for none.
      words: what stands on the tile below the figure: that baseline's name, or of what it is.
      tune: None where the loop does not watch it on the tune list; 0 where it does; from 1 on, its
        rank among those that choose the best checkpoint where the wanted one is unknown.
      compared: whether ``python -m wsol_jax.compare`` shows it.
    """

    key: str
    heading: str
    label: str
    meaning: str = ""
    baseline: bool = False
    headline: str = ""
    against: str = ""
    words: str = ""
    tune: int | None = None
    compared: bool = True


FIGURES = (
    Figure(
        "miou",
        SEGMENTATION,
        "mean IoU",
        "of classes, background among them",
        headline="mean IoU",
        against="background_miou",
        words="all background",
        tune=5,
    ),
    Figure(
        "background_miou",
        SEGMENTATION,
        "all background",
        "baseline: no pixel looked at",
        baseline=True,
        compared=False,
    ),
    Figure(
        "pixel_accuracy",
        SEGMENTATION,
        "pixel accuracy",
        "background among them",
        headline="pixel accuracy",
        against="background_accuracy",
        words="all background",
        tune=0,
    ),
    Figure(
        "background_accuracy",
        SEGMENTATION,
        "all background",
        "baseline: no pixel looked at",
        baseline=True,
        compared=False,
    ),
    Figure(
        "gt_known_loc",
        BOXES,
        "GT-known",
        "box with IoU ≥ 0.5, the class given",
        headline="GT-known",
        against="central_box",
        words="central box",
    ),
    Figure(
        "central_box",
        BOXES,
        "central box",
        "baseline: the best fixed box, fit on train",
        baseline=True,
        compared=False,
    ),
    Figure("top1_loc", BOXES, "Top-1 localization", "box and first class both right"),
    Figure(
        "top5_loc",
        BOXES,
        "Top-5 localization",
        "box, and class among the first five",
        compared=False,
    ),
    Figure(
        "top5_star_loc",
        BOXES,
        "Top-5* localization",
        "SPG's five boxes of three classes",
        compared=False,
    ),
    Figure("max_box_acc", BEST_BOXES, "MaxBoxAcc", "IoU ≥ 0.5, largest contour", tune=1),
    Figure("max_box_acc_v2", BEST_BOXES, "MaxBoxAccV2", "mean over IoU 0.3, 0.5, 0.7; any contour"),
    Figure(
        "detection_map",
        DETECTION,
        "detection mAP",
        "boxes around the maps' regions, IoU ≥ 0.5, mean of classes",
    ),
    Figure(
        "central_detection_map",
        DETECTION,
        "central box",
        "baseline: same confidences, the best fixed box, fit on train",
        baseline=True,
    ),
    Figure("detection_map_20", DETECTION, "detection mAP, IoU ≥ 0.2", "the same boxes"),
    Figure(
        "central_detection_map_20",
        DETECTION,
        "central box, IoU ≥ 0.2",
        "baseline: the same fixed box",
        baseline=True,
    ),
    Figure(
        "pxap",
        PIXELS,
        "PxAP",
        "average precision of the pixels",
        headline="PxAP",
        against="gaussian_pxap",
        words="Gaussian",
        tune=0,
    ),
    Figure(
        "gaussian_pxap",
        PIXELS,
        "centred Gaussian",
        "baseline: looks at no pixel",
        baseline=True,
        compared=False,
    ),
    Figure(
        "saliency_ap",
        PIXELS,
        "saliency AP",
        "raw maps of the classes shown, pixels pooled",
        headline="saliency AP",
        words="pixels of the classes shown",
        tune=3,
    ),
    Figure("saliency_ap_per_map", PIXELS, "saliency AP, per map", "mean over the maps", tune=0),
    Figure(
        "location_map",
        PLACES,
        "location mAP",
        "peak in a box of its class, mean of classes",
        headline="location mAP",
        against="centre_location_map",
        words="image centre",
        tune=0,
    ),
    Figure(
        "centre_location_map",
        PLACES,
        "image centre",
        "baseline: same confidences",
        baseline=True,
        tune=0,
    ),
    Figure(
        "peak_distance",
        PLACES,
        "peaks apart",
        "first part's from the second's, pixels",
        baseline=True,
        compared=False,
    ),
    Figure(
        "easy_part_mass",
        PARTS,
        "on the easy part",
        "share of the map's mass, mean over images",
        baseline=True,
    ),
    Figure(
        "easy_part_area", PARTS, "an even map", "baseline: its area", baseline=True, compared=False
    ),
    Figure(
        "hard_part_mass",
        PARTS,
        "on the hard part",
        "share of the map's mass, mean over images",
        baseline=True,
    ),
    Figure(
        "hard_part_area", PARTS, "an even map", "baseline: its area", baseline=True, compared=False
    ),
    Figure(
        "top1_acc",
        CLASSES,
        "Top-1 accuracy",
        headline="Top-1",
        words="of the classes right",
        tune=2,
    ),
    Figure("top5_acc", CLASSES, "Top-5 accuracy", compared=False),
    Figure(
        "class_map",
        CLASSES,
        "class mAP",
        "images ranked by each class score",
        headline="class mAP",
        words="mean over the classes",
        tune=4,
    ),
)

# Figures class by class: key, name, meaning. The first that is known orders the classes.
BY_CLASS = (
    ("iou", "IoU", "pixels of the class, over all images"),
    ("gt_known_loc", "GT-known", "box with IoU ≥ 0.5 at the run's threshold, the class given"),
    ("pxap", "PxAP", "average precision of the pixels of the class's images"),
    ("top1_acc", "Top-1", "images whose first class is right"),
    ("saliency_ap", "saliency AP", "pixels of the images that show it, ranked by its raw map"),
    ("location_ap", "location AP", "images ranked by the map's peak, right inside a box"),
    ("class_ap", "class AP", "images ranked by the class score"),
    ("detection_ap", "detection AP", "its boxes ranked over the list, right at IoU ≥ 0.5"),
)
# Of these, figures of images that may show several classes.
SEVERAL = frozenset({"iou", "location_ap"})

COMPARED = tuple(figure.key for figure in FIGURES if figure.compared)
WATCHED = tuple(figure.key for figure in FIGURES if figure.tune is not None)


def by_key(key: str) -> Figure | None:
    """The row of a figure; None where the table does not know it."""
    return next((figure for figure in FIGURES if figure.key == key), None)


def groups() -> dict[str, list[Figure]]:
    """The figures by heading, both in the order of the page."""
    found: dict[str, list[Figure]] = {}
    for figure in FIGURES:
        found.setdefault(figure.heading, []).append(figure)
    return found


def headlines() -> list[Figure]:
    """The figures that stand on tiles, in their order there."""
    return [figure for figure in FIGURES if figure.headline]


def best_value(figures: Mapping[str, float], wanted: str) -> float | None:
    """The figure that decides which checkpoint is best: the wanted one, or what there is."""
    ranked = sorted((figure.tune, figure.key) for figure in FIGURES if figure.tune)
    for key in (wanted, *(key for _, key in ranked)):
        if key in figures:
            return figures[key]
    return None


def watched(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Those of a list's figures that the loop watches, as far as they are known."""
    return {key: figures[key] for key in WATCHED if figures.get(key) is not None}


def unknown(keys: Collection[str]) -> list[str]:
    """Keys that the table does not name, in alphabetical order."""
    return sorted(set(keys) - {figure.key for figure in FIGURES})
