"""Boxes at 1,000 thresholds: ours against OpenCV's contour route, in one run on one core.

    python benchmarks/boxes.py

For maps of 14x14 and 28x28 enlarged bicubically to 224x224, V1 (largest contour) and V2 (all
contours): milliseconds a map, the ratio to the route as the community writes it (contours at each
of the 1,000 thresholds) and to that route with equal quantised levels computed once. Beside them
the physical floor, one pass over the map's bytes, and the throughput over cores. The boxes of both
sides are compared first.
"""

import concurrent.futures
import functools
import os
import pathlib
import sys
import time

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from benchmarks import common
from wsol_jax.metrics.boxes import THRESHOLDS, best_ious, boxes_from_score_map
from wsol_jax.metrics.maps import prepare_map

CONTOURS = "OpenCV's contours"


def contour_route(score_map, multi_contour, once):
    """OpenCV's contours at each threshold; `once`: at each quantised level that occurs."""
    height, width = score_map.shape
    image = (score_map * 255).astype(np.uint8)
    top = image.max()
    known, found = {}, []
    for tau in THRESHOLDS:
        cut = int(tau * top)
        if not once or cut not in known:
            _, binary = cv2.threshold(image, cut, 255, cv2.THRESH_BINARY)
            contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            if contours and not multi_contour:
                contours = [max(contours, key=cv2.contourArea)]
            boxes = []
            for contour in contours:
                x, y, w, h = cv2.boundingRect(contour)
                boxes.append([x, y, min(x + w, width - 1), min(y + h, height - 1)])
            known[cut] = np.array(boxes or [[0, 0, 0, 0]])
        found.append(known[cut])
    return found


def seconds_a_map(sides, maps, rounds):
    """{side: seconds in each round, the median over maps}; the sides take turns."""

    def one(side):
        return [common.clock(functools.partial(side, score_map))[0] for score_map in maps]

    found = common.in_turns({n: functools.partial(one, s) for n, s in sides.items()}, rounds)
    return {name: np.median(times, axis=1) for name, times in found.items()}


def check(maps, multi_contour, what):
    """Ends the program where the boxes of both sides differ; compiles ours."""
    for score_map in maps:
        ours = boxes_from_score_map(score_map, THRESHOLDS, multi_contour=multi_contour)
        for a, b in zip(ours, contour_route(score_map, multi_contour, True), strict=True):
            if not np.array_equal(a, b):
                sys.exit(f"boxes differ on {what}")


def rows_of(times, version, cells):
    """The rows of one kind of maps, to both routes."""
    what = f"boxes at {len(THRESHOLDS):,} thresholds, {version}", f"maps of {cells}x{cells}"
    return [
        common.Row(*what, times["ours"], times[side], against=against, by="best")
        for side, against in (("route", CONTOURS), ("once", f"{CONTOURS}, levels once"))
    ]


def throughput(maps, cores, count):
    """Maps a second with V1 and V2 scored against one box, over threads (the GIL is released)."""
    gt = np.array([[40, 40, 180, 180]])

    def score(k):
        for multi_contour in (False, True):
            best_ious(maps[k % len(maps)], gt, THRESHOLDS, multi_contour=multi_contour)

    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        start = time.perf_counter()
        list(pool.map(score, range(count)))
        return count / (time.perf_counter() - start)


def main():
    parser = common.make_parser(__doc__)
    parser.add_argument("--maps", type=int, default=8, help="maps of each kind")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scored", type=int, default=400, help="maps, for the throughput")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:
        os.sched_setaffinity(0, cores[:1])
    rng = np.random.default_rng(0)
    print(f"OpenCV {cv2.__version__}, {len(THRESHOLDS)} thresholds, one core; ms a map")
    print("map     version   ours    floor   route           levels once")
    worst, rows = [np.inf, np.inf], []
    for cells in (14, 28):
        maps = [prepare_map(rng.random((cells, cells))) for _ in range(args.maps)]
        for version, multi in (("V1", False), ("V2", True)):
            check(maps, multi, f"a {cells}x{cells} map, {version}")
            sides = {
                "ours": lambda m, v=multi: boxes_from_score_map(m, THRESHOLDS, multi_contour=v),
                "floor": lambda m: m.max(),
                "route": lambda m, v=multi: contour_route(m, v, False),
                "once": lambda m, v=multi: contour_route(m, v, True),
            }
            times = seconds_a_map(sides, maps, args.rounds)
            own = rows_of(times, version, cells)
            rows += own
            ms = {name: 1e3 * x.min() for name, x in times.items()}
            ratios = [row.ratio for row in own]
            worst = [min(w, r) for w, r in zip(worst, ratios, strict=True)]
            print(
                f"{cells}x{cells}   {version}       {ms['ours']:.2f}    {ms['floor']:.3f}   "
                f"{ms['route']:6.1f} ({ratios[0]:.1f}x)   {ms['once']:5.1f} ({ratios[1]:.1f}x)"
            )
    print(f"least ratios: {worst[0]:.1f}x to the route, {worst[1]:.1f}x with levels computed once")
    if cores:
        os.sched_setaffinity(0, cores)
    for n in sorted({1, len(cores) or 1}):
        rate = throughput(maps, n, args.scored)
        print(f"{n} core(s): {rate:.0f} maps/s (28x28, V1 and V2 with IoUs)")
        what = ("maps scored, V1 and V2 with IoUs", f"28x28, {n} core(s)")
        rows.append(common.Row(*what, [rate], unit="maps/s"))
    common.write(args, rows)


if __name__ == "__main__":
    main()
