"""Weakly supervised object localization and segmentation in JAX."""

__version__ = "0.1.0"
