"""From Python: seconds to the first heat map in a fresh process, and the memory of many photos.

    python benchmarks/from_python.py --workdir=RUN --images=FOLDER [--photos=1000] [--out=FILE.json]

A process of its own imports the package, loads the run, and looks at a photo twice; once with an
empty compilation cache, once with what that left. A third one looks through the folder, as often as
--photos asks for, and tells its memory (the resident set) after a tenth of them and at the end.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIRST = """
import json, sys, time
start = time.perf_counter()
marks = {}
def mark(name):
    global start
    marks[name] = round(time.perf_counter() - start, 3)
    start = time.perf_counter()
import wsol_jax; mark("import wsol_jax")
load = wsol_jax.load; mark("import jax and the rest")
model = load(sys.argv[1]); mark("load")
model(sys.argv[2]).heatmap; mark("first photo")
model(sys.argv[2]).heatmap; mark("second photo")
print(json.dumps(marks))
"""
MANY = """
import json, pathlib, sys, time
import wsol_jax
def resident():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024
model = wsol_jax.load(sys.argv[1])
count, memory, start = int(sys.argv[3]), {}, time.perf_counter()
for i, result in enumerate(model(sys.argv[2]), start=1):
    result.heatmap, result.boxes
    if i in (count // 10, count):
        memory[str(i)] = resident()
seconds = time.perf_counter() - start
print(json.dumps({"photos": i, "photos/s": round(i / seconds, 2), "resident MB": memory}))
"""


def child(code, *words, cache):
    env = {**os.environ, "WSOL_JAX_CACHE": cache, "PYTHONPATH": str(ROOT)}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    words = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(words, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(figures, count):
    rows = []
    for state in ("cold cache", "warm cache"):
        seconds = dict(figures[state])
        del seconds["second photo"]
        what = "from import to the first heat map"
        rows.append(common.Row(what, state, [sum(seconds.values())]))
    rate = [figures["many"]["photos/s"]]
    return [*rows, common.Row("photos of a folder", f"{count} photos", rate, unit="photos/s")]


def main():
    parser = common.make_parser(__doc__)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--images", required=True, type=pathlib.Path)
    parser.add_argument("--photos", type=int, default=1000)
    flags = parser.parse_args()
    photos = sorted(flags.images.rglob("*.jpg"))
    if not photos:
        sys.exit(f"error: no .jpg in {flags.images}")
    with tempfile.TemporaryDirectory() as folder:
        cache, many = pathlib.Path(folder) / "cache", pathlib.Path(folder) / "many"
        figures = {
            f"{state} cache": child(FIRST, flags.workdir, photos[0], cache=str(cache))
            for state in ("cold", "warm")
        }
        many.mkdir()
        for i in range(flags.photos):
            photo = photos[i % len(photos)].resolve()
            (many / f"{i:06}.jpg").symlink_to(photo)
        words = (flags.workdir, many, flags.photos)
        figures["many"] = child(MANY, *words, cache=str(cache))
    for name, values in figures.items():
        print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in values.items()))
    common.write(flags, rows_of(figures, flags.photos), **figures)


if __name__ == "__main__":
    main()
