"""Compiled without optimisation: a tiny network takes far longer to compile than to run."""

import functools

import jax

quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
