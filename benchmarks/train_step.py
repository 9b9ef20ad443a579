"""A training step of this project against the same step in PyTorch, in turns, in one run.

    python benchmarks/train_step.py --network=cam-vgg16 --batch=4
    python benchmarks/train_step.py --network=spg-inception --batch=2 --out=spg.json

The step is the one that ``wsol_jax.main`` runs: the config's method, compiled once, the state's
buffers donated; its log's gradient norm and accuracy are in the time. The peer (torch_peer.py) has
the same layers and losses, without those two figures. First the two are compared with equal weights
and no dropout: parameters counted, losses and gradient norms of two steps. Then rounds in turns,
JAX and PyTorch, each round the mean of ``--steps`` steps; the ratio is the median of the rounds'.

On CPU both compute in float32 on ``--threads`` cores, PyTorch in the fastest of its two memory
layouts with one thread or with all: it is tried first, and where other programs share the cores one
thread can be faster. CPU seconds are printed beside the wall time for such machines.

On a GPU both compute in bfloat16 with float32 parameters, PyTorch compiled (torch.compile,
--compile=false for without) and channels last. The share of the peak is the step's
multiplications (PyTorch's counter: convolutions and matrix products, two operations a
multiply-add) over the fastest of both frameworks' large matrix products in the same run.
"""

import functools
import os
import pathlib
import platform
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_peer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import common
from configs import cam, spg
from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.methods import shared
from wsol_jax.runs.plan import Plan, create_state, lower_step


def read_flags(argv=None):
    parser = common.make_parser(__doc__)
    parser.add_argument("--network", choices=("cam-vgg16", "spg-inception"), default="cam-vgg16")
    parser.add_argument("--batch", type=int, default=0, help="images; 0: 4 (VGG16), 2, GPU 64")
    parser.add_argument("--size", type=int, default=224, help="pixels of the square image")
    parser.add_argument("--width", type=float, default=1.0, help="channel multiplier of the trunk")
    parser.add_argument("--head-channels", type=int, default=0, help="0: the config's")
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="a round; 0: 2, on a GPU 20")
    parser.add_argument("--threads", type=int, default=0, help="cores; 0: all this process has")
    parser.add_argument("--compile", choices=("auto", "true", "false"), default="auto")
    parser.add_argument("--layout", choices=("auto", "contiguous", "channels_last"), default="auto")
    parser.add_argument("--peak-size", type=int, default=0, help="matrix side; 0: 2048, GPU 8192")
    return parser.parse_args(argv)


_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def make_config(flags, on_gpu):
    """The paper's config, with rates so small that random data cannot make it diverge."""
    is_cam = flags.network == "cam-vgg16"
    config = (
        cam.get_config("cub,backbone=vgg16,weights=none")
        if is_cam
        else spg.get_config("cub,weights=none")
    )
    with config.unlocked():
        config.data.crop, config.model.width = flags.size, flags.width
        config.train.batch_size = flags.batch or (64 if on_gpu else 4 if is_cam else 2)
        config.model.preprocessing = "caffe" if is_cam else "tf"
        config.optimizer.schedule = "constant"
        config.optimizer.backbone_lr, config.optimizer.head_lr = 1e-7, 1e-6
        config.model.dropout = 0.5
        if not is_cam:  # the peer has SPG-B and SPG-C in the head's group, and the code's SPG
            config.optimizer.guide_lr = config.optimizer.head_lr
            config.spg.thresholds, config.spg.c_layers = "released", 1
        if flags.head_channels:
            config.model.head_channels = flags.head_channels
            if not is_cam:
                config.spg.channels = flags.head_channels
    return config


def without_dropout(config):
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.model.dropout = 0.0
    return config


class JaxStep:
    """The project's compiled step on one device; call it to make one."""

    def __init__(self, config, classes, images, labels):
        mesh = sharding.data_mesh(1)
        method = methods.build(config, classes)
        plan = Plan.of(config.train, 10_000, mesh)
        self.state, step, _ = create_state(config, method, plan, mesh)
        lowered = lower_step(step, self.state, plan, config, classes, mesh)
        self.compiled = lowered.compile()
        rows = len(images)
        batch = {
            "image": images,
            "labels": np.eye(classes, dtype=np.float32)[labels],
            "valid": np.ones((rows,), bool),
            "index": np.arange(rows, dtype=np.int32),
        }
        self.batch = sharding.to_devices(batch, mesh)

    def __call__(self):
        self.state, metrics = self.compiled(self.state, self.batch)
        return metrics


def torch_step(config, flags, images, labels, device, state, layout, compiled):
    """The peer with the arrays of a JAX state, and the number of its parameters."""
    network = torch_peer.Network(config, flags.classes)
    count = torch_peer.copy_variables(
        network, state.params, state.collections.get("batch_stats", {})
    )
    step = torch_peer.Step(
        network,
        config.optimizer,
        images,
        labels,
        device,
        _LAYOUTS[layout],
        autocast=device.type == "cuda",
        compiled=compiled,
    )
    return step, count


def compare(config, flags, images, labels, device):
    """Two steps of both without dropout; returns the figures of the comparison.

    Raises:
      SystemExit: the losses or gradient norms disagree, so that a ratio would mean nothing.
    """
    config = without_dropout(config)
    ours = JaxStep(config, flags.classes, images, labels)
    theirs, count = torch_step(
        config, flags, images, labels, device, ours.state, "contiguous", False
    )
    params = sum(x.size for x in jax.tree.leaves(ours.state.params))
    assert params == count == sum(p.numel() for p in theirs.network.parameters())
    rows, flops = [], 0
    for index in range(2):
        with FlopCounterMode(display=False) as counter:
            loss = theirs().item()
        flops = counter.get_total_flops()
        metrics = ours()
        pairs = {
            "loss": (float(metrics["loss"]), loss),
            "gradient norm": (float(metrics["gradient_norm"]), theirs.gradient_norm()),
        }
        for name, (a, b) in pairs.items():
            difference = abs(a - b) / max(abs(b), 1e-12)
            rows.append(dict(step=index + 1, of=name, jax=a, torch=b, relative=difference))
            print(f"  step {index + 1} {name:13} {a:.6g} {b:.6g}  apart {difference:.1e}")
    exact = device.type == "cpu"
    limits = {"loss": 1e-4 if exact else 2e-2, "gradient norm": 1e-3 if exact else 5e-2}
    if any(not row["relative"] <= limits[row["of"]] for row in rows):
        sys.exit("error: the two steps are not the same step; see above.")
    print(f"  parameters {params:,} on both sides; {flops / 1e9:,.1f} GFLOP a step")
    return dict(parameters=params, flops_per_step=flops, rows=rows)


def matmul_peak(device, side):
    """FLOP/s of a large matrix product, the best of both frameworks; bfloat16 on a GPU."""
    dtypes = (jnp.bfloat16, torch.bfloat16) if device.type == "cuda" else (None, None)
    a = np.random.default_rng(0).standard_normal((side, side), np.float32)
    x = jnp.asarray(a, dtypes[0] or jnp.float32)
    y = torch.from_numpy(a).to(device=device, dtype=dtypes[1] or torch.float32)
    multiply = jax.jit(jnp.matmul)
    repeats = 50 if device.type == "cuda" else 3

    def ours():
        for _ in range(repeats):
            z = multiply(x, x)
        z.block_until_ready()

    def theirs():
        for _ in range(repeats):
            torch.matmul(y, y)
        synchronize(device)

    rates = []
    for run in (ours, theirs):
        run()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) / repeats)
        rates.append(2 * side**3 / float(np.median(times)))
    return dict(zip(("jax", "torch"), rates, strict=True))


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(step, steps, wait):
    """(wall, CPU) seconds of a step, the mean of ``steps``."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        last = step()
    wait(last)
    return (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps


def measure(flags):
    """Compares, then times; returns everything that was found."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = jax.default_backend() == "gpu"
    if on_gpu != (device.type == "cuda"):
        sys.exit(f"error: JAX runs on {jax.default_backend()}, PyTorch on {device}: no comparison.")
    threads = flags.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    compiled = on_gpu if flags.compile == "auto" else flags.compile == "true"
    config = make_config(flags, on_gpu)
    batch, steps = config.train.batch_size, flags.steps or (20 if on_gpu else 2)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, flags.size, flags.size, 3), np.uint8)
    labels = rng.integers(flags.classes, size=batch)
    where = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()}, {threads} core(s)"
    print(f"{flags.network}, batch {batch} at {flags.size}, {where}")
    print(f"equal weights, no dropout (jax {jax.__version__}, torch {torch.__version__}):")
    check = compare(config, flags, images, labels, device)

    start = time.perf_counter()
    ours = JaxStep(config, flags.classes, images, labels)
    compile_seconds = time.perf_counter() - start
    wait_torch = lambda _: synchronize(device)
    if flags.layout == "auto":
        layouts = ["channels_last"] if on_gpu else list(_LAYOUTS)
    else:
        layouts = [flags.layout]
    trials, kept = {}, None
    for layout in layouts:
        theirs, _ = torch_step(config, flags, images, labels, device, ours.state, layout, compiled)
        for count in [threads] if on_gpu else sorted({1, threads}):
            torch.set_num_threads(count)
            theirs()
            name = layout if on_gpu else f"{layout}, {count} thread(s)"
            trials[name] = min(seconds(theirs, 1, wait_torch) for _ in range(2))[0]
            if trials[name] == min(trials.values()):
                kept, best, best_threads = theirs, name, count
    torch.set_num_threads(best_threads)
    for run in (ours, kept):
        run()
    wait_torch(None)

    sides = {
        "jax": functools.partial(seconds, ours, steps, jax.block_until_ready),
        "torch": functools.partial(seconds, kept, steps, wait_torch),
    }
    found = common.in_turns(sides, flags.rounds)  # (rounds, wall and CPU)
    cpu_ratios = found["torch"][:, 1] / found["jax"][:, 1]
    median = {name: np.median(times, axis=0).tolist() for name, times in found.items()}
    peaks = matmul_peak(device, flags.peak_size or (8192 if on_gpu else 2048))
    peak, flops = max(peaks.values()), check["flops_per_step"]
    print(f"{'':8}{'images/s':>10}{'s/step':>10}{'CPU s':>10}{'TFLOP/s':>10}{'of peak':>9}")
    for name, (wall, cpu) in median.items():
        rate = flops / wall
        print(
            f"{name:8}{batch / wall:10.2f}{wall:10.4f}{cpu:10.4f}"
            f"{rate / 1e12:10.3f}{rate / peak:9.1%}"
        )
    settings = f"{best}, torch.compile {'on' if compiled else 'off'}"
    print(f"PyTorch: {settings}; measured matrix peak {peak / 1e12:.3f} TFLOP/s")
    dtype = shared.compute_dtype(config.dtype).name
    row = common.Row(
        f"a training step, {flags.network}",
        f"batch {batch} at {flags.size}, {dtype}, rounds of {steps} steps",
        *(found[name][:, 0] for name in ("jax", "torch")),
        against=f"PyTorch, {settings}",
    )
    print(row)
    if not on_gpu:
        print(f"in CPU seconds: {np.median(cpu_ratios):.2f}x")
    return row, dict(
        threads=None if on_gpu else threads,
        torch_setting=best,
        torch_trials=trials,
        torch_compile=compiled,
        check=check,
        jax_compile_seconds=compile_seconds,
        wall_and_cpu_seconds_per_step={n: t.tolist() for n, t in found.items()},
        images_per_second={name: batch / wall for name, (wall, _) in median.items()},
        matmul_flops_per_second=peaks,
        share_of_peak={n: flops / wall / peak for n, (wall, _) in median.items()},
        ratio_in_cpu_seconds=float(np.median(cpu_ratios)),
    )


def main(flags):
    if flags.threads:  # before XLA counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: flags.threads])
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two share a GPU's memory
    row, figures = measure(flags)
    common.write(flags, [row], **figures)


if __name__ == "__main__":
    main(read_flags())
