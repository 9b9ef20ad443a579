"""``--mode=export``: a run's network as files that JAX alone runs."""

import pathlib

from wsol_jax.api import exported
from wsol_jax.api.model import load
from wsol_jax.base.typed import as_typed
from wsol_jax.runs import workdirs


def export(workdir: pathlib.Path, out: pathlib.Path, checkpoint: str = "") -> None:
    """Exports a run's network, and says what was written.

    Args:
      workdir: of a trained run.
      out: made if absent; an earlier export in it is replaced.
      checkpoint: as for ``load``.

    Raises:
      UserError: no run, ``out`` is something else, or a method that cannot be exported.
    """
    workdirs.load(workdir)  # mistakes are told before the network is restored
    exported.check_out(out)
    model = load(workdir, checkpoint=checkpoint)
    model.export(out)
    names = (exported.FUNCTION, exported.WEIGHTS)
    sizes = ", ".join(f"{name} ({_size(out / name)})" for name in names)
    rest = f"{exported.MODEL}, {exported.RUN}"
    print(f"{model.config.method} at step {model.step} -> {as_typed(str(out))}: {sizes}, {rest}")


def _size(path: pathlib.Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size > 1e6 else f"{size / 1e3:.0f} kB"
