"""The benchmarks that ``all.py`` knows: each script with its settings, and what it needs."""

import dataclasses
import importlib.util
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class Platform(NamedTuple):
    """What JAX runs on here, and whether PyTorch has a GPU (None: it is not installed)."""

    name: str
    devices: Sequence[str] = ()
    torch_gpu: bool | None = None


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A script with one setting.

    Attributes:
      name: what --only and --skip know it by, as well as by its script's.
      cpu, accelerator: the command's flags on either; bfloat16 on accelerators is the scripts' own.
      quick: the flags that show in seconds that it runs.
      packages: modules that must be there -> how to get them.
      takes: flags of ``all.py`` that are handed on -> the script's own. requires: those of them
        that it cannot do without.
      same_device: whether PyTorch must run on the kind of device that JAX has.
      apart: why it runs where --only names it alone. never: why not even there.
      minutes: about what it takes on two CPU cores.
    """

    name: str
    cpu: str = ""
    accelerator: str = ""
    quick: str = ""
    packages: Mapping[str, str] = dataclasses.field(default_factory=dict)
    takes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    requires: Collection[str] = ()
    same_device: bool = False
    apart: str = ""
    never: str = ""
    minutes: float = 1.0

    @property
    def script(self) -> str:
        """The file's name without .py."""
        return self.name.partition(".")[0]

    def words(self, platform: Platform, quick: bool, given: Mapping[str, str | None]) -> list[str]:
        """The script's flags here; ``given``: values of flags of ``all.py``."""
        text = self.quick if quick else self.cpu if platform.name == "cpu" else self.accelerator
        handed = [f"{own}={given[flag]}" for flag, own in self.takes.items() if given.get(flag)]
        return [*text.split(), *handed]

    def why_not(self, platform: Platform, given: Mapping[str, str | None], named: bool) -> str:
        """Why it cannot run here, or ""; ``named``: whether --only names it."""
        for module, advice in self.packages.items():
            if importlib.util.find_spec(module) is None:
                return f"{module} is not installed ({advice})"
        if missing := [f"--{flag}" for flag in self.requires if not given.get(flag)]:
            return f"it needs {' and '.join(missing)}"
        if self.same_device and platform.name not in ("cpu", "gpu"):
            return f"its peer PyTorch does not run on JAX's {platform.name}"
        if self.same_device and platform.torch_gpu != (platform.name == "gpu"):
            place = "a GPU (CUDA_VISIBLE_DEVICES= hides it)" if platform.torch_gpu else "cpu"
            return f"JAX runs on {platform.name}, PyTorch on {place}"
        return self.never or ("" if named else self.apart)


TORCH = {"torch": "pip install -e .[torch]"}
CRF = {"pydensecrf": "pip install -e .[pydensecrf], needs a C compiler"}
NO_SPEED = "no figure of speed: --only={} runs it"
_SMALL_STEP = (
    "--batch=1 --size=64 --width=0.5 --head-channels=32 --peak-size=128 --layout=contiguous "
    "--rounds=1 --steps=1"
)

SUITE = (
    Benchmark("boxes", quick="--maps=1 --rounds=1 --scored=8"),
    Benchmark(
        "input_pipeline",
        quick="--count=16 --batch=4 --rounds=1",
        packages=TORCH,
        takes={"images": "--images"},
    ),
    Benchmark(
        "train_step.cam",
        cpu="--network=cam-vgg16 --batch=4",
        accelerator="--network=cam-vgg16 --batch=64 --rounds=10 --steps=40",
        quick=f"--network=cam-vgg16 {_SMALL_STEP}",
        packages=TORCH,
        same_device=True,
        minutes=3,
    ),
    Benchmark(
        "train_step.spg",
        cpu="--network=spg-inception --batch=2 --rounds=3",
        accelerator="--network=spg-inception --batch=64 --rounds=10 --steps=40",
        quick=f"--network=spg-inception {_SMALL_STEP}",
        packages=TORCH,
        same_device=True,
        minutes=3,
    ),
    Benchmark(
        "crf",
        accelerator="--rounds=10",
        quick="--batch=2 --map=12 --size=40x32 --classes=4 --rounds=1",
        packages=CRF,
    ),
    Benchmark(
        "segments",
        quick="--photos=2 --rounds=1 --width=0.35 --size=160",
        takes={"segmenter": "--workdir"},
        minutes=5,
    ),
    Benchmark(
        "regions",
        accelerator="--batch=8 --rounds=10",
        quick="--batch=1 --cells=8 --depth=32 --side=32 --regions=8 --rounds=1 --photos=1",
    ),
    Benchmark(
        "methods",
        cpu="--backbone=mobilenet_v2 --batch=6 --rounds=3",
        accelerator="--backbone=vgg16 --batch=30 --steps=10",
        quick="--width=0.35 --size=64 --head-channels=32 --rounds=1 --steps=1",
        minutes=4,
    ),
    Benchmark(
        "sec_step",
        cpu="--backbone=mobilenet_v2 --batch=4 --rounds=3",
        accelerator="--backbone=vgg16 --batch=15 --steps=10",
        quick="--backbone=mobilenet_v2 --width=0.35 --batch=1 --size=161 --rounds=1 --steps=1",
        minutes=3,
    ),
    Benchmark(
        "hide_and_seek_step",
        cpu="--backbone=vgg16 --batch=1 --rounds=3 --steps=1",
        accelerator="--backbone=vgg16 --batch=1 --steps=10",
        quick="--backbone=mobilenet_v2 --width=0.35 --size=129 --rounds=1 --steps=1",
        minutes=5,
    ),
    Benchmark(
        "from_python",
        quick="--photos=10",
        takes={"run": "--workdir", "images": "--images"},
        requires=("run", "images"),
        minutes=2,
    ),
    Benchmark(
        "explain",
        quick="--photos=2 --batch=2 --channels=2 --steps=2 --names=cam",
        takes={"root": "--root", "run": "--run"},
        requires=("root", "run"),
        apart=NO_SPEED.format("explain"),
        minutes=60,
    ),
    Benchmark(
        "devices",
        quick="--recipes=cam --images=1",
        packages={"libtpu": "pip install -e .[aot]"},
        apart=NO_SPEED.format("devices"),
        minutes=20,
    ),
    Benchmark("ablation", never="trainings of hours and no figure of speed: run it by itself"),
    Benchmark("reproduce", never="trainings of hours and no figure of speed: run it by itself"),
)
