"""What remote folders cost a local run: nothing is loaded for them, nothing is looked up."""

import subprocess
import sys

import tiny

_SCRIPT = """
import sys
import wsol_jax.main, wsol_jax.api.model, wsol_jax.api.train, wsol_jax.stages.train
from wsol_jax.base import fetched, outputs
from wsol_jax.runs import mirror

with mirror.opened({folder!r}) as workdir, outputs.to_folder("--out", {folder!r}):
    fetched.local({folder!r}, "--images", folder=None)
    mirror.read({folder!r})
    mirror.before_save(workdir, None)
    mirror.commit(workdir)
    mirror.tick(workdir)
loaded = [name for name in sys.modules if name.partition(".")[0] in ("fsspec", "s3fs", "gcsfs")]
assert not loaded, loaded
"""


def test_a_local_run_loads_no_client_of_any_store(tmp_path):
    script = _SCRIPT.format(folder=str(tmp_path / "run"))
    subprocess.run([sys.executable, "-c", script], cwd=tiny.ROOT, check=True)
