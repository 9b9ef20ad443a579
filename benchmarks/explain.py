"""Every explanation on real photos: where it says the object is, and how faithful it is.

    python benchmarks/explain.py --root=VOC2012 --weights=FILE --list=wsol_test --run=runs/cam0

Two networks: MobileNetV2 with ImageNet's own classifier, whose class is the likeliest of those that
ImageNet has of the photo's animal; and a run of CAM (docs/results.md has its command). PxAP and
MaxBoxAcc say where, insertion, deletion, average drop and increase how faithful: each by the
probability of the class. The class maps and the CAM-style maps are clipped at zero.
"""

import argparse
import json
import pathlib
import platform
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from configs import common
from wsol_jax import explain
from wsol_jax.data.lists import open_present
from wsol_jax.data.pipeline import EvalExample
from wsol_jax.evaluate.kind import Truth
from wsol_jax.explain import faithfulness, named
from wsol_jax.methods import Trained
from wsol_jax.methods.imagenet import pretrained
from wsol_jax.metrics import baselines
from wsol_jax.metrics.boxes import THRESHOLDS, best_ious
from wsol_jax.metrics.localization import BoxAccuracy
from wsol_jax.metrics.maps import prepare_map, resize_mask
from wsol_jax.metrics.masks import PixelAP, class_target
from wsol_jax.runs import opened, workdirs

# ImageNet's classes of each animal, by number.
GROUPS = {
    "cat": range(281, 286),
    "cow": (345,),
    "dog": range(151, 269),
    "horse": (339,),
    "sheep": (348, 349),
}
TRIED = ("score_cam", "ablation_cam")  # a channel at a time
GAUSSIAN = "centred Gaussian"


def read_flags(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="a VOC2012 folder")
    parser.add_argument("--list", default="wsol_test", help="single-label, of the five animals")
    parser.add_argument("--train", default="wsol_train", help="the list that the run learned of")
    parser.add_argument("--weights", help="MobileNetV2's file with its classifier; none: no row")
    parser.add_argument("--run", type=pathlib.Path, help="a CAM run's folder; none: no row")
    parser.add_argument("--photos", type=int, default=0, help="evenly drawn; 0: all")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--channels", type=int, default=64, help="of Score-CAM, Ablation-CAM")
    parser.add_argument("--steps", type=int, default=14, help="of insertion and deletion")
    parser.add_argument("--names", default="", help="explanations, joined by commas; none: all")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file for the figures")
    return parser.parse_args(argv)


def open_photos(flags):
    """The list, and the indices that are asked for."""
    config = common.base()
    config.data.name, config.data.root = "voc", flags.root
    config.data.train = flags.train  # whose classes all lists have
    source = open_present(config.data, flags.list)
    count = min(flags.photos or len(source), len(source))
    return source, np.unique(np.linspace(0, len(source) - 1, count).round().astype(int))


def networks(flags):
    """{name: (network, class names to their numbers, size of its photos)}."""
    found = {}
    if flags.weights:
        network = pretrained("mobilenet_v2", flags.weights)
        found["ImageNet's classifier"] = (network, GROUPS, 224)
    if flags.run:
        folder = workdirs.network_folder(flags.run)
        config, class_names = workdirs.load_to_run(folder)
        run = opened.open_run(config, folder, devices=1)
        numbers = {name: (c,) for c, name in enumerate(class_names)}
        size = config.eval.size or config.data.crop
        variables = jax.device_put(run.variables, jax.devices()[0])
        found["trained CAM"] = (Trained(run.method, variables), numbers, size)
    return found


def explanations(flags):
    """{name: function(network, photos, classes) -> (B, h, w)}."""
    found = {}
    for name in flags.names.split(",") if flags.names else (named.CAM, *named.METHODS):
        if name == named.CAM:
            found[name] = own_maps
        else:
            options = {"channels": flags.channels} if name in TRIED else {}
            found[name] = explained(named.named(name), options)
    return found


def own_maps(network, photos, classes):
    return jax.nn.relu(explain.maps(network, photos, classes, named.CAM))


def explained(explanation, options):
    compiled = jax.jit(
        lambda tapped, photos, classes: explanation(
            tapped, photos, explain.class_score(classes), **options
        )
    )
    return lambda network, photos, classes: compiled(tap_of(network), photos, classes)


def tap_of(network):
    return explain.of_method(network.method, network.variables)


@jax.jit
def logits_of(tapped, photos):
    return tapped(photos)[1]


def measure(steps):
    """A compiled function: (network, photos, maps, classes) -> figures, (B,) each."""

    def figures(tapped, photos, maps, classes):
        given = (tapped, photos, maps, explain.probability(classes))
        drop, rises = faithfulness.average_drop(*given)
        return {
            "insertion": faithfulness.insertion(*given, steps=steps).area,
            "deletion": faithfulness.deletion(*given, steps=steps).area,
            "average_drop": drop,
            "average_increase": rises.astype(jnp.float32),
        }

    return jax.jit(figures)


class Place:
    """Where a map says the object is, over a list."""

    def __init__(self):
        self.pixels, self.boxes = PixelAP(), BoxAccuracy()

    def add(self, truth, raw):
        label, image_id = truth.record.labels[0], truth.record.image_id
        score_map = prepare_map(raw)
        self.pixels.update(image_id, score_map, *class_target(resize_mask(truth.mask), label))
        boxes, labels = truth.boxes
        own = boxes[labels == label]
        largest = best_ious(score_map, own, THRESHOLDS)[None]
        self.boxes.update([image_id], largest, np.zeros_like(largest))

    def figures(self):
        return {
            "pxap": self.pixels.compute(),
            "max_box_acc": self.boxes.compute()["max_box_acc"],
        }


def batches(source, indices, size, batch):
    """(photos of a full batch, the last one's rows repeated; their truths)."""
    example = EvalExample(source, size)
    for start in range(0, len(indices), batch):
        own = indices[start : start + batch]
        rows = [example(int(index)) for index in own]
        if not all(row["valid"] for row in rows):
            sys.exit(f"error: a photo of {source.name} cannot be read.")
        truths = [
            Truth(source, int(index), tuple(map(int, row["size"])))
            for index, row in zip(own, rows, strict=True)
        ]
        photos = np.stack([row["image"] for row in rows])
        yield np.concatenate([photos, *[photos[-1:]] * (batch - len(own))]), truths


def table(network, numbers, size, flags, source, indices):
    """{explanation: its figures} of one network."""
    tapped, score = tap_of(network), measure(flags.steps)
    known = explanations(flags)
    places = {name: Place() for name in (*known, GAUSSIAN)}
    sums = {name: {} for name in places}
    seconds = dict.fromkeys(known, 0.0)
    right = 0
    for done, (photos, truths) in enumerate(batches(source, indices, size, flags.batch)):
        logits = np.asarray(logits_of(tapped, photos))
        groups = [numbers[source.class_names[t.record.labels[0]]] for t in truths]
        best = [g[int(np.argmax(row[list(g)]))] for g, row in zip(groups, logits, strict=False)]
        right += sum(int(row.argmax()) in g for g, row in zip(groups, logits, strict=False))
        classes = np.array(best + best[-1:] * (len(photos) - len(best)), np.int32)
        for name in places:
            if name == GAUSSIAN:
                maps = jnp.tile(jnp.asarray(baselines.gaussian_map()), (len(photos), 1, 1))
            else:
                start = time.perf_counter()
                maps = jax.block_until_ready(known[name](network, photos, classes))
                seconds[name] += (time.perf_counter() - start) * (done > 0)  # compiled by then
            for truth, raw in zip(truths, np.asarray(maps), strict=False):
                places[name].add(truth, raw)
            for figure, values in score(tapped, photos, maps, classes).items():
                own = np.asarray(values, np.float64)[: len(truths)]
                sums[name].setdefault(figure, []).extend(own.tolist())
        print(f"  {min((done + 1) * flags.batch, len(indices))} of {len(indices)}", flush=True)
    found = {}
    for name, place in places.items():
        found[name] = {**place.figures(), **{k: float(np.mean(v)) for k, v in sums[name].items()}}
        if name in seconds and len(indices) > flags.batch:
            photos = (-(-len(indices) // flags.batch) - 1) * flags.batch
            found[name]["seconds_a_photo"] = seconds[name] / photos
    return found, right / len(indices)


COLUMNS = ("pxap", "max_box_acc", "insertion", "deletion", "average_drop", "average_increase")


def main(argv=None):
    flags = read_flags(argv)
    source, indices = open_photos(flags)
    device = jax.devices()[0]
    print(f"{len(indices)} of {len(source)} photos of {flags.list}, {device.device_kind}")
    results = {}
    for title, (network, numbers, size) in networks(flags).items():
        print(f"{title}:")
        found, accuracy = table(network, numbers, size, flags, source, indices)
        results[title] = {"top1_acc": accuracy, "explanations": found}
        print(f"  top-1 accuracy {100 * accuracy:.1f}")
        print("  " + "explanation".ljust(18) + "".join(c.rjust(18) for c in COLUMNS))
        for name, row in found.items():
            print("  " + name.ljust(18) + "".join(f"{100 * row[c]:18.1f}" for c in COLUMNS))
    if flags.out:
        setting = {
            k: v for k, v in vars(flags).items() if k not in ("out", "root", "weights", "run")
        }
        where = {"device": device.device_kind, "machine": platform.machine()}
        text = {**where, "jax": jax.__version__, "setting": setting, "photos": len(indices)}
        flags.out.write_text(json.dumps({**text, "networks": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
