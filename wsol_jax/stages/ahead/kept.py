"""Keeps what XLA made of a step, as compiling one takes minutes."""

import contextlib
import gzip
import hashlib
import json
import zlib

import jax
import jaxlib

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import cache_folder, write_whole
from wsol_jax.base.progress import compiling
from wsol_jax.base.types import Json
from wsol_jax.stages.ahead.topology import Topology, compiler_version

# Autotuning tries kernels on a card, and there is none; Triton's matrix products rely on it.
_OPTIONS = {
    "tpu": None,
    "gpu": {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False},
}


def compiled(traced: jax.stages.Traced, place: Topology) -> dict[str, Json]:
    """What a step is once compiled, from the cache if the same one was compiled before.

    Returns:
      "text" (HLO), "accessed" (bytes; None where XLA does not tell), "arguments", "temporaries",
      "outputs" (bytes); or "error", the compiler's words, where it needs more memory than there is.
    """
    lowered = traced.lower()
    versions = f"{jax.__version__} {jaxlib.__version__} {compiler_version(place)} {place.name}"
    options = _OPTIONS[place.platform] or ""
    key = hashlib.sha256(f"{versions}{options}\n{lowered.as_text()}".encode()).hexdigest()
    path = cache_folder() / "ahead" / f"{key}.json.gz"
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, ValueError, zlib.error, EOFError):
        pass  # new, or cut short
    made = _compile(lowered, place)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
        write_whole(path, gzip.compress(json.dumps(made).encode(), 1))
    return made


def _compile(lowered: jax.stages.Lowered, place: Topology) -> dict[str, Json]:
    try:
        with compiling(place.name):
            program = lowered.compile(compiler_options=_OPTIONS[place.platform])
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return {"error": str(error)[:2000]}
        first = str(error).splitlines()[0][:300]
        raise UserError(f"--topology={place.name}: XLA cannot compile the step: {first}") from error
    cost = program.cost_analysis() or {}
    return {
        "text": program.as_text(),
        "accessed": cost.get("bytes accessed"),
        **memory_of(program),
    }


def memory_of(program: jax.stages.Compiled) -> dict[str, int]:
    """Bytes that a program needs on a device, by what for; {} where the backend does not tell.

    What is given back in the place of an argument counts once.
    """
    memory = program.memory_analysis()
    if memory is None:
        return {}
    return {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    }
