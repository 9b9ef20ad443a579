"""The data set that comes with the package: drawn creatures with boxes and masks."""

from collections.abc import Callable

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.records import Source


def opener(data: Config, fetch: bool) -> Callable[[str], Source]:
    """Its row in ``data.sources``: list name -> Source; ``fetch``: it may be drawn now."""
    from wsol_jax.data.embedded.source import is_drawn, open_embedded

    variant = {"multi": data.multi_label, "parts": data.parts}
    if not fetch and not is_drawn(**variant):
        raise UserError("the embedded data set is not drawn on this machine.")
    return lambda name: open_embedded(name, **variant)
