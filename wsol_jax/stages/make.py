"""A labeller's ``make``, compiled for the networks that it reads."""

from collections.abc import Callable, Mapping

import jax

from wsol_jax.base.errors import UserError
from wsol_jax.methods import Batch, Labeller, Method, Trained, Variables


class _Networks(dict[str, Trained]):
    """By name in ``reads``; a name that a config got wrong is the user's."""

    def __init__(self, networks: Mapping[str, Trained], reads: Mapping[str, str]):
        super().__init__(networks)
        self._reads = reads

    def __missing__(self, name: str) -> Trained:
        reads = ", ".join(self._reads) or "nothing"
        why = "which is a label stage" if name in self._reads else f"but reads {reads}"
        raise UserError(f"the labeller needs a network for its {name!r}, {why}.")


def compile_make(
    labeller: Labeller, methods: Mapping[str, Method]
) -> Callable[[Mapping[str, Variables], Batch], dict[str, jax.Array]]:
    """(variables by name, batch) -> arrays by name: ``labeller.make`` compiled."""

    @jax.jit
    def step(variables, batch):
        found = {name: Trained(methods[name], tree) for name, tree in variables.items()}
        return dict(labeller.make(_Networks(found, labeller.reads), batch))

    return step
