"""Dense CRF: ours against pydensecrf2 on the same unaries and images, in one run.

    python benchmarks/crf.py [--out=FILE.json] [--cores=1]

exact: a batch of 15 maps of 41x41x21, as SEC's constrain loss needs every step; lattice: one photo
of 500x366x21; 10 iterations each. pydensecrf2 loops over the images on a CPU's core, also where
ours runs on a GPU. On a CPU the lattice is timed three times: by numba with one thread and with
two, and by JAX, as on accelerators. First the probabilities are compared, then all sides are timed
in turns. Beside the ratios: the arithmetic of `exact` against a plain large matrix product in the
same run, the lattice's peak memory as XLA plans it, and what either method's approximation costs in
accuracy.
"""

import functools
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
if sys.platform == "linux" and "--cores=1" in sys.argv:  # before XLA counts the cores
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])

import cv2
import jax
import jax.numpy as jnp

from benchmarks import common, machine
from wsol_jax.data.decode import decode_rgb
from wsol_jax.ops.crf import dense_crf
from wsol_jax.ops.crf.host import host_field
from wsol_jax.ops.crf.photo import photo_field

try:
    from pydensecrf.densecrf import DenseCRF2D
except ImportError:
    sys.exit("benchmarks/crf.py compares with pydensecrf2: pip install pydensecrf2 (a C compiler)")

EXACT = dict(bilateral=(10.0, 80 / 12, 13.0), spatial=(3.0, 3 / 12))  # SEC's, at 41x41
LATTICE = dict(bilateral=(10.0, 80.0, 13.0), spatial=(3.0, 3.0))


def peer(unary, image, bilateral, spatial, iterations):
    height, width, classes = unary.shape
    field = DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(np.array(unary.reshape(-1, classes).T, np.float32, order="C"))
    field.addPairwiseGaussian(sxy=spatial[1], compat=spatial[0])
    field.addPairwiseBilateral(
        sxy=bilateral[1], srgb=bilateral[2], rgbim=np.array(image), compat=bilateral[0]
    )
    return np.array(field.inference(iterations)).T.reshape(unary.shape)


def made_up(rng, height, width):
    """A scene of soft blobs with grain; a photo has about as many vertices."""
    small = rng.integers(0, 256, (6, 8, 3)).astype(np.float32)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return (image + rng.normal(size=image.shape) * 4).clip(0, 255).astype(np.uint8)


def unary_of(rng, height, width, classes):
    scores = rng.normal(size=(7, 9, classes)).astype(np.float32) * 3
    scores = cv2.resize(scores, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(-jax.nn.log_softmax(scores))


def in_float64(unary, image, bilateral, spatial, iterations):
    """The formula itself, all pairs in float64."""
    place = np.indices(image.shape[:2]).reshape(2, -1)
    colours = image.reshape(-1, 3).T.astype(np.float64)
    apart = lambda rows: sum((row[:, None] - row) ** 2 for row in rows)
    kernel = 0
    for weight, exponent in (
        (bilateral[0], apart(place / bilateral[1]) + apart(colours / bilateral[2])),
        (spatial[0], apart(place / spatial[1])),
    ):
        pairs = np.exp(-0.5 * exponent)
        scale = 1 / np.sqrt(pairs.sum(1))
        kernel = kernel + weight * scale[:, None] * pairs * scale
    scores = -unary.reshape(-1, unary.shape[-1]).astype(np.float64)
    found = 0 * scores
    for i in range(iterations + 1):
        found = np.exp(scores + (kernel @ found if i else 0))
        found /= found.sum(1, keepdims=True)
    return found.reshape(unary.shape)


def timed(sides, rounds):
    """{side: (wall, CPU) seconds of each round}, the sides taking turns."""
    clocks = {name: functools.partial(common.clock, side) for name, side in sides.items()}
    return {name: times.T for name, times in common.in_turns(clocks, rounds).items()}


def compare(name, setting, ours, peer, expected, rounds, at_most):
    """Results of each of ours, then all times; {which of ours: figures}, and the rows."""
    result = {}
    for label, side in ours.items():
        found = np.asarray(side())
        difference = float(np.abs(found - expected).max())
        agreement = float(np.mean(found.argmax(-1) == expected.argmax(-1)))
        print(f"{name}{label}: against pydensecrf2 max difference {difference:.1e}, ", end="")
        print(f"same label at {100 * agreement:.3f}% of the pixels")
        if at_most is not None and difference > at_most:
            sys.exit(f"{name}{label}: differs by more than {at_most}")
        result[label] = dict(max_difference=difference, agreement=agreement)
    times, rows = timed({**ours, "pydensecrf2": peer}, rounds), []
    wall, cpu = times["pydensecrf2"]
    for label, figures in result.items():
        own, own_cpu = times[label]
        row = common.Row(f"CRF {name}{label}", setting, own, wall, against="pydensecrf2", by="best")
        rows.append(row)
        print(f"{row}, best of {rounds}; CPU seconds {min(own_cpu):.3g} and {min(cpu):.3g}")
        print(f"ratio {name}{label} in CPU seconds of the host: {min(cpu) / min(own_cpu):.2f}x")
        figures |= dict(
            ours=own.tolist(), peer=wall.tolist(), ratio=row.ratio,
            cpu=own_cpu.tolist(), peer_cpu=cpu.tolist(), cpu_ratio=min(cpu) / min(own_cpu),
        )  # fmt: skip
    return result, rows


def matmul_speed(rounds, size=2048):
    """GFLOP/s of one large float32 product."""
    a = jnp.asarray(np.random.default_rng(0).random((size, size), np.float32))
    product = jax.jit(functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))
    jax.block_until_ready(product(a, a))
    wall, _ = timed({"it": lambda: jax.block_until_ready(product(a, a))}, rounds)["it"]
    return 2 * size**3 / min(wall) / 1e9


def main():
    parser = common.make_parser(__doc__)
    parser.add_argument("--image", help="a photo for the lattice; default: one made up")
    parser.add_argument("--batch", type=int, default=15)
    parser.add_argument("--map", type=int, default=41, help="side of the maps for exact")
    parser.add_argument("--size", default="500x366", help="of the photo for the lattice")
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, choices=(1,), help="run on one core alone (Linux)")
    args = parser.parse_args()
    setting = f"{args.classes} classes, {args.iterations} iterations"
    print(machine.heading(setting))
    rng, result = np.random.default_rng(0), {}

    side, iterations = args.map, args.iterations
    images = np.stack([made_up(rng, side, side) for _ in range(args.batch)])
    unaries = np.stack([unary_of(rng, side, side, args.classes) for _ in range(args.batch)])
    on_device = [jax.device_put(x) for x in (unaries, images)]
    loop = lambda: np.stack(
        [peer(u, i, iterations=iterations, **EXACT) for u, i in zip(unaries, images, strict=True)]
    )
    exact = lambda: jax.block_until_ready(dense_crf(*on_device, iterations=iterations, **EXACT))
    expected = loop()
    name = f"exact {side}x{side}, batch {args.batch}"
    formula = in_float64(unaries[0], images[0], iterations=iterations, **EXACT)
    difference = float(np.abs(np.asarray(exact())[0] - formula).max())
    print(f"{name}: the first map against float64, max difference {difference:.1e}")
    if difference > 1e-4:
        sys.exit(f"{name}: differs from the formula by more than 1e-4")
    # pydensecrf2 approximates what exact computes, so no bound here.
    found, rows = compare(name, setting, {"": exact}, loop, expected, args.rounds, None)
    result["exact"] = found[""]
    flop = 2 * args.batch * iterations * side**4 * args.classes
    speed, plain = flop / min(result["exact"]["ours"]) / 1e9, matmul_speed(args.rounds)
    print(f"{name}: {flop / 1e9:.1f} GFLOP of products at {speed:.0f} GFLOP/s, ", end="")
    print(f"{100 * speed / plain:.0f}% of a plain 2048x2048 product's {plain:.0f}")
    result["exact"] |= dict(gflop=flop / 1e9, gflops=speed, plain_gflops=plain)
    approximate = np.asarray(
        dense_crf(*on_device, method="lattice", iterations=iterations, **EXACT)
    )
    accurate = np.asarray(exact())
    for label, a, b in (
        ("lattice against exact", approximate, accurate),
        ("lattice against pydensecrf2", approximate, expected),
    ):
        difference, same = np.abs(a - b).max(), np.mean(a.argmax(-1) == b.argmax(-1))
        print(f"{label}, the same maps: max difference {difference:.1e}, ", end="")
        print(f"same label at {100 * same:.2f}%")
        result[label] = dict(max_difference=float(difference), agreement=float(same))

    width, height = map(int, args.size.split("x"))
    photo = made_up(rng, height, width)
    if args.image:
        photo = cv2.resize(decode_rgb(args.image, args.image), (width, height))
    unary = unary_of(rng, height, width, args.classes)
    arrays = [jax.device_put(x) for x in (unary, photo)]
    settings = (LATTICE["bilateral"], LATTICE["spatial"], None, iterations)
    ours = {"": lambda: jax.block_until_ready(photo_field(*arrays, *settings))}
    if jax.default_backend() == "cpu":
        by_numba = lambda threads: (
            lambda: host_field(unary[None], photo[None], *settings, threads=threads)[0]
        )
        ours = {
            ", numba, 1 thread": by_numba(1),
            ", numba, 2 threads": by_numba(2),
            ", JAX": ours[""],
        }
    other = lambda: peer(unary, photo, iterations=iterations, **LATTICE)
    title = f"lattice {args.size}"
    found, more = compare(title, setting, ours, other, other(), args.rounds, 1e-3)
    result |= {f"lattice{label}": figures for label, figures in found.items()}
    machine.print_peak()
    common.write(args, [*rows, *more], **result)


if __name__ == "__main__":
    main()
