"""Regions of MCOF: masked RoI pooling against the obvious loop; what a photo alone costs.

    python benchmarks/regions.py

Pooling: all regions of made-up photos at once (`ops.regions.masked_roi_max_pool`) and the loop over
regions and bins in NumPy, whose results are compared first; forward alone, and with the gradient.
Photos: milliseconds, and megabytes that NumPy asks for at most, of superpixels, saliency and Bayes'
rule on a made-up photo of 500x375, on one thread; photos a second on all cores.
"""

import concurrent.futures
import functools
import pathlib
import sys
import time
import tracemalloc

import cv2
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from benchmarks import common, machine
from wsol_jax.base import threads
from wsol_jax.ops import bayes
from wsol_jax.ops.regions import masked_roi_max_pool
from wsol_jax.ops.saliency import robust_background
from wsol_jax.ops.superpixels import felzenszwalb


def loop(features, regions, count, size):
    """Region by region, bin by bin: (R, size, size, D)."""
    height, width, depth = features.shape
    rows = np.arange(regions.shape[0]) * height // regions.shape[0]
    columns = np.arange(regions.shape[1]) * width // regions.shape[1]
    pixels = features[rows][:, columns]
    found = np.zeros((count, size, size, depth), features.dtype)
    for region in range(count):
        ys, xs = np.nonzero(regions == region)
        if not len(ys):
            continue
        top, left = ys.min(), xs.min()
        vertical = (ys - top) * size // (ys.max() - top + 1)
        horizontal = (xs - left) * size // (xs.max() - left + 1)
        for y in range(size):
            for x in range(size):
                inside = (vertical == y) & (horizontal == x)
                if inside.any():
                    found[region, y, x] = pixels[ys[inside], xs[inside]].max(axis=0)
    return found


def blobs(rng, side, count):
    """(side, side) ids: each pixel belongs to the nearest of ``count`` random points."""
    points = rng.random((count, 2)) * side
    grid = np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 1, 2)
    return np.argmin(((grid - points) ** 2).sum(-1), axis=1).reshape(side, side).astype(np.int32)


def pooling(args):
    """The rows of both sides in turns, seconds an image."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((args.batch, args.cells, args.cells, args.depth))
    features = np.maximum(features, 0).astype(np.float32)
    regions = np.stack([blobs(rng, args.side, args.regions) for _ in range(args.batch)])
    pool = functools.partial(masked_roi_max_pool, count=args.regions, size=args.size)
    forward = jax.jit(jax.vmap(pool))
    backward = jax.jit(jax.grad(lambda x, r: jnp.sum(jax.vmap(pool)(x, r) ** 2)))
    given = jax.device_put((features, regions))
    ours = np.asarray(forward(*given))
    theirs = np.stack(
        [loop(*pair, args.regions, args.size) for pair in zip(features, regions, strict=True)]
    )
    if not np.array_equal(ours, theirs):
        sys.exit(f"pooled features differ by {np.abs(ours - theirs).max()}")
    jax.block_until_ready(backward(*given))
    sides = {
        "ours": lambda: jax.block_until_ready(forward(*given)),
        "with the gradient": lambda: jax.block_until_ready(backward(*given)),
        "loop": lambda: [
            loop(*x, args.regions, args.size) for x in zip(features, regions, strict=True)
        ],
    }
    clocks = {name: functools.partial(common.clock, side) for name, side in sides.items()}
    times = {n: x[:, 0] / args.batch for n, x in common.in_turns(clocks, args.rounds).items()}
    setting = f"{args.regions} regions to {args.size}x{args.size}x{args.depth}, batch {args.batch}"
    name, against = "masked RoI pooling", "a loop over regions in NumPy"
    return [
        common.Row(name, setting, times["ours"], times["loop"], against),
        common.Row(f"{name} with its gradient", setting, times["with the gradient"]),
    ]


def photo(rng, height=375, width=500):
    """Smooth blobs with some noise, about as many regions as a photo has."""
    small = rng.integers(0, 256, (12, 16, 3)).astype(np.float32)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(large + rng.normal(0, 6, large.shape), 0, 255).astype(np.uint8)


def photos(args):
    """Milliseconds and peak megabytes of what MCOF computes of a photo alone."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    shots = [photo(rng) for _ in range(args.photos)]
    found = np.zeros(shots[0].shape[:2], bool)
    found[100:250, 150:350] = True

    def refine(shot):
        prior = np.linspace(0, 1, found.size, dtype=np.float32).reshape(found.shape)
        return bayes.posterior(prior, bayes.colour_texture_bins(shot), found)

    rows = {}
    for name, work in (
        ("superpixels", felzenszwalb),
        ("saliency", robust_background),
        ("bayes", refine),
    ):
        work(shots[0])
        wall, cpu = time.perf_counter(), time.process_time()
        for shot in shots:
            work(shot)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        tracemalloc.start()
        work(shots[0])
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        with concurrent.futures.ThreadPoolExecutor(threads.usable_cores()) as pool:
            start = time.perf_counter()
            list(pool.map(work, shots * 2))
            rate = 2 * len(shots) / (time.perf_counter() - start)
        each = 1e3 / len(shots)
        rows[name] = dict(ms=wall * each, cpu_ms=cpu * each, peak_mib=peak, per_second=rate)
    return rows


def main():
    parser = common.make_parser(__doc__)
    parser.add_argument("--batch", type=int, default=2, help="images")
    parser.add_argument("--cells", type=int, default=20, help="of the features, a side")
    parser.add_argument("--depth", type=int, default=512, help="channels")
    parser.add_argument("--side", type=int, default=80, help="of the region ids, a side")
    parser.add_argument("--regions", type=int, default=160, help="an image")
    parser.add_argument("--size", type=int, default=7, help="bins a side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=8, help="0: pooling alone")
    args = parser.parse_args()
    print(machine.heading("an image's regions"))
    rows, found = pooling(args), photos(args) if args.photos else {}
    for row in rows:
        print(row)
    for name, own in found.items():
        print(
            f"{name}, 500x375: {own['ms']:.0f} ms ({own['cpu_ms']:.0f} of CPU), "
            f"{own['peak_mib']:.0f} MiB; {own['per_second']:.1f} photos/s on "
            f"{threads.usable_cores()} cores"
        )
        rows.append(
            common.Row(f"MCOF's {name} on a photo", "500x375, one thread", [own["ms"] / 1e3])
        )
    common.write(args, rows, photos=found)


if __name__ == "__main__":
    main()
