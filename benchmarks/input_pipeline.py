"""Training images a second from JPEG files: this project's loader against PyTorch's with Pillow.

    python benchmarks/input_pipeline.py                      # photos written for the purpose
    python benchmarks/input_pipeline.py --images=FOLDER      # JPEGs of your own, any depth

Both read the same files in random order, decode them, warp to 256x256 (bilinear), cut a random
window of 224x224, mirror it with probability 0.5 and stack uint8 batches. Ours is
``wsol_jax.data.pipeline.train_batches``, with its check for truncated files; the peer is a
torch.utils.data.DataLoader over a Dataset that uses Pillow and NumPy. Both get ``--workers``
processes (0: in this process; ours then reads in ``--threads`` threads, the DataLoader has none) on
the same cores: the figure is images a second and core. Rounds in turns; the ratio is the median of
the rounds', in wall time and in CPU seconds.
"""

import functools
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from absl import flags as absl_flags
from PIL import Image

from benchmarks import common, machine
from wsol_jax.data import orders, pipeline
from wsol_jax.data.records import Record

RESIZE, CROP = 256, 224


class Photos:
    """The files as a Source of this project; one class."""

    name, class_names = "photos", ("photo",)

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return Record(image_id=self.paths[index], image=self.paths[index], labels=(0,))


class PillowPhotos(torch.utils.data.Dataset):
    """The same files, resize, crop and flip with Pillow."""

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index], formats=["JPEG"]) as opened:
            image = opened.convert("RGB")
        image = image.resize((RESIZE, RESIZE), Image.Resampling.BILINEAR)
        left, top = torch.randint(RESIZE - CROP + 1, (2,)).tolist()
        image = image.crop((left, top, left + CROP, top + CROP))
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.array(image), 0


def our_batches(paths, batch, workers, threads, seed):
    rows = pipeline.BatchRows(orders.Uniform(len(paths), seed), batch, batch, len(paths) // batch)
    example = pipeline.TrainExample(Photos(paths), 1, CROP, RESIZE, "warp", 0.5, seed)
    for made in pipeline.train_batches(rows, example, workers=workers, threads=threads):
        assert made["valid"].all()
        yield made["image"]


def torch_batches(paths, batch, workers, threads, seed):
    del threads  # the DataLoader has none
    generator = torch.Generator().manual_seed(seed)
    loader = torch.utils.data.DataLoader(
        PillowPhotos(paths),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        generator=generator,
    )
    for images, _ in loader:
        yield images


SIDES = {"wsol_jax": our_batches, "torch": torch_batches}


def rate(batches):
    """Images a second of wall time and of CPU time, from the second batch on: start-up is no load.

    CPU time is this process's, so it means something without worker processes only.
    """
    batches = iter(batches)
    next(batches)
    wall, cpu, images = time.perf_counter(), time.process_time(), 0
    for made in batches:
        assert made.shape[1:] == (CROP, CROP, 3) and len(str(made.dtype).split("uint8")) == 2
        images += len(made)
    return images / (time.perf_counter() - wall), images / (time.process_time() - cpu)


def read_flags(argv=None):
    parser = common.make_parser(__doc__)
    parser.add_argument("--images", type=pathlib.Path, help="folder of JPEGs; else they are made")
    parser.add_argument("--count", type=int, default=640, help="photos to make, or to read at most")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--cores", type=int, default=1, help="for both, by affinity")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: in this process")
    parser.add_argument("--threads", type=int, default=0, help="of ours; 0: as many as cores")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args(argv)


def measure(flags):
    allowed = os.sched_getaffinity(0)
    cores = min(flags.cores, len(allowed))
    threads = flags.threads or cores
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        if flags.images:
            found = (p for p in flags.images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
            paths = [str(p) for p in sorted(found)][: flags.count]
            what = f"{len(paths)} files of {flags.images.name}"
        else:
            paths = common.write_photos(pathlib.Path(temporary), flags.count)
            what = f"{len(paths)} made photos, 500x375, quality 90"
        if len(paths) < 2 * flags.batch:
            sys.exit(f"error: {len(paths)} JPEGs are under two batches of {flags.batch}.")
        print(machine.heading(f"{what}; {flags.workers} worker processes, our threads: {threads}"))
        os.sched_setaffinity(0, sorted(allowed)[:cores])
        try:
            seeds = {name: iter(range(flags.rounds)) for name in SIDES}

            def read(name):
                reader = (flags.batch, flags.workers, threads, next(seeds[name]))
                return rate(SIDES[name](paths, *reader))

            sides = {name: functools.partial(read, name) for name in SIDES}
            rates = common.in_turns(sides, flags.rounds)  # (rounds, wall and CPU)
        finally:
            os.sched_setaffinity(0, allowed)
    setting = f"{what}, {cores} core(s), {flags.workers} worker processes, a core's share"
    against = "torch's DataLoader with Pillow"
    walls = [rates[name][:, 0] / cores for name in SIDES]
    row = common.Row("training images read", setting, *walls, against=against, unit="images/s")
    print(row)
    own = {}
    if not flags.workers:
        cpu = [rates[name][:, 1] for name in SIDES]
        own["ratio_in_cpu_seconds"] = float(np.median(cpu[0] / cpu[1]))
        own["images_a_cpu_second"] = {n: x.tolist() for n, x in zip(SIDES, cpu, strict=True)}
        print(f"in CPU seconds: {own['ratio_in_cpu_seconds']:.2f}x")
    return row, dict(images=what, cores=cores, threads=threads, **own)


def main(flags):
    if not absl_flags.FLAGS.is_parsed():
        absl_flags.FLAGS.mark_as_parsed()  # grain's worker processes read them
    row, figures = measure(flags)
    common.write(flags, [row], **figures)


if __name__ == "__main__":
    main(read_flags())
