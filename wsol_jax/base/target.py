"""Which kind of device a program is traced for: this machine's, or one that is not here.

A few forms differ by device: the computation's dtype, and convolutions and poolings that are
written out where XLA's are slow. They ask here and not ``jax.default_backend()``, so that a step
that is compiled ahead of time for another device is the step that will run there.
"""

import jax

# Part of the key of JAX's caches: what was traced for one device is not found again for another.
_PLATFORM = jax.make_user_context("")


EVERY = "every"  # one program for all platforms, as an export is


def platform() -> str:
    """The platform that is traced for: "cpu", "tpu", "gpu" or ``EVERY``."""
    return _PLATFORM.value or jax.default_backend()


def traced_for(platform: str):
    """A context in which programs are traced for a platform, whatever this machine has."""
    return _PLATFORM(platform)
