"""The names of a published network's layers in its publishers' files."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

Module = tuple[str, ...]  # names from the trunk inward: ("Mixed_5b", "branch1x1", "conv")


@dataclasses.dataclass(frozen=True)
class PublishedNames:
    """Names of a network's layers by publisher; each backbone's file has its own.

    Attributes:
      layers: all modules with parameters of the published network, first to last, classifier
        included.
      torch: torchvision's name of a layer -> module.
      keras: names of a Keras file's arrays ("layer/weight") -> Keras' name of a layer -> module.
      last_conv: torchvision's name of the last convolution's kernel, where fc6 follows flattened.
      auxiliary: how torchvision's names of auxiliary classifiers begin, which nobody reads.
    """

    layers: tuple[Module, ...]
    torch: Mapping[str, Module]
    keras: Callable[[Iterable[str]], Mapping[str, Module]] = lambda arrays: {}
    last_conv: str = ""
    auxiliary: tuple[str, ...] = ()


def single(layers: Mapping[str, str]) -> dict[str, Module]:
    """Names of layers that are one module deep, as a table of ``PublishedNames``."""
    return {published: (name,) for published, name in layers.items()}
