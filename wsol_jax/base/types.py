"""Names of types that every floor writes. Nothing of JAX is loaded: configs come by here."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import ml_collections

if TYPE_CHECKING:
    import jax

# A config, or one of its sections: fields as configs/common.py and the methods' files list them.
Config = ml_collections.ConfigDict

# Arrays by name, nested as modules are: parameters, or collections of variables.
Tree = Mapping[str, "Tree | jax.Array"]

# A tree like the parameters, with a group of the optimizer ("<part>/<kind>") for each.
Groups = Mapping[str, "Groups | str"]

# What a JSON file holds.
Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
