"""Explanations of any network: which places of an image move a class's score.

    from wsol_jax import explain

    network = explain.linen(module, variables, "Conv_3")     # or explain.nnx, explain.plain
    heat = explain.grad_cam(network, images, explain.class_score(3))      # (B, h, w)

Pure functions (network, images, target) -> (B, h, w) float32, to be compiled with ``jax.jit``, of
which the network, the images and the target may all be arguments. ``maps`` does it for a run.
"""

from wsol_jax.explain.averages import flips, smooth
from wsol_jax.explain.named import METHODS, maps
from wsol_jax.explain.network import Network, Tapped, function, linen, nnx, of_method, plain
from wsol_jax.explain.targets import class_score, difference, pixel, probability, region
from wsol_jax.explain.tried import ablation_cam, eigen_cam, score_cam
from wsol_jax.explain.weighted import cam, grad_cam, grad_cam_pp, layer_cam, xgrad_cam

__all__ = [
    "METHODS",
    "Network",
    "Tapped",
    "ablation_cam",
    "cam",
    "class_score",
    "difference",
    "eigen_cam",
    "flips",
    "function",
    "grad_cam",
    "grad_cam_pp",
    "layer_cam",
    "linen",
    "maps",
    "nnx",
    "of_method",
    "pixel",
    "plain",
    "probability",
    "region",
    "score_cam",
    "smooth",
    "xgrad_cam",
]
