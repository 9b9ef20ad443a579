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

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import PIL
import torch
from absl import flags as absl_flags
from PIL import Image

from wsol_jax.data import orders, pipeline
from wsol_jax.data.records import Record

RESIZE, CROP = 256, 224


def write_photos(folder: pathlib.Path, count: int, size=(500, 375), quality=90) -> list[str]:
    """``count`` JPEGs of 1/f-like noise: sums of smooth random fields at five scales."""
    paths = []
    for index in range(count):
        rng = np.random.default_rng(index)
        total = np.zeros((size[1], size[0], 3), np.float32)
        for cells in (4, 12, 36, 108, 324):
            field = rng.standard_normal((cells * size[1] // size[0] + 1, cells, 3))
            field = np.clip(field * 48 + 128, 0, 255).astype(np.uint8)
            layer = Image.fromarray(field).resize(size, Image.Resampling.BICUBIC)
            total += (np.asarray(layer, np.float32) - 128) * (4 / cells) ** 0.35
        picture = np.clip(total + 128, 0, 255).astype(np.uint8)
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(picture).save(path, quality=quality)
        paths.append(str(path))
    return paths


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=pathlib.Path, help="folder of JPEGs; else they are made")
    parser.add_argument("--count", type=int, default=640, help="photos to make, or to read at most")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--cores", type=int, default=1, help="for both, by affinity")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: in this process")
    parser.add_argument("--threads", type=int, default=0, help="of ours; 0: as many as cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file for the figures")
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
            paths = write_photos(pathlib.Path(temporary), flags.count)
            what = f"{len(paths)} made photos, 500x375, quality 90"
        if len(paths) < 2 * flags.batch:
            sys.exit(f"error: {len(paths)} JPEGs are under two batches of {flags.batch}.")
        print(f"{what}; {cores} core(s), {flags.workers} worker processes, our threads: {threads}")
        os.sched_setaffinity(0, sorted(allowed)[:cores])
        try:
            sides = [("wsol_jax", our_batches), ("torch", torch_batches)]
            rounds = {name: [] for name, _ in sides}
            for index in range(flags.rounds):
                for name, make in sides if index % 2 == 0 else sides[::-1]:
                    made = make(paths, flags.batch, flags.workers, threads, index)
                    rounds[name].append(rate(made))
        finally:
            os.sched_setaffinity(0, allowed)
    rates = {name: np.array(values) for name, values in rounds.items()}  # (rounds, wall and CPU)
    ratios = rates["wsol_jax"] / rates["torch"]
    wall, cpu = np.median(ratios, axis=0).tolist()
    per_core = {}
    for name, values in rates.items():
        median = np.median(values, axis=0)
        per_core[name] = dict(wall=median[0] / cores, cpu=median[1])
        print(f"{name:9}{per_core[name]['wall']:8.1f} images/s per core", end="")
        print(f"{median[1]:10.1f} a CPU second" if not flags.workers else "")
    low, high = ratios[:, 0].min(), ratios[:, 0].max()
    print(f"ratio wsol_jax / torch: {wall:.2f}x (rounds {low:.2f} to {high:.2f})")
    if not flags.workers:
        print(f"in CPU seconds: {cpu:.2f}x")
    return dict(
        images=what,
        cores=cores,
        workers=flags.workers,
        threads=threads,
        batch=flags.batch,
        load_average=os.getloadavg()[0],
        versions=dict(torch=torch.__version__, pillow=PIL.__version__, opencv=cv2.__version__),
        rounds=rounds,
        images_per_second_per_core=per_core,
        ratio=wall,
        ratio_range=[float(low), float(high)],
        ratio_in_cpu_seconds=None if flags.workers else cpu,
    )


def main(flags):
    if not absl_flags.FLAGS.is_parsed():
        absl_flags.FLAGS.mark_as_parsed()  # grain's worker processes read them
    figures = measure(flags)
    if flags.out:
        flags.out.parent.mkdir(parents=True, exist_ok=True)
        flags.out.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


if __name__ == "__main__":
    main(read_flags())
