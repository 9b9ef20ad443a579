"""Eight fake CPU devices, parsed flags for grain, and the way to the real photos."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight fake devices; and what is compiled here takes longer to compile than to run.
for _flag in (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
):
    if _flag.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}".strip()
os.environ.setdefault("KERAS_BACKEND", "jax")

import pytest
from absl import flags

# grain's worker processes read absl flags, which only an app.run would have parsed.
flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of real photos and weights; skips the test where it is absent."""
    root = pathlib.Path(os.environ.get("WSOL_SHARED", pathlib.Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no real data: {root} is absent (set WSOL_SHARED to the folder that holds it)")
    return root.resolve()
