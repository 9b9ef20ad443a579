"""Max pooling with PyTorch's and Caffe's output sizes, which fix the published map sizes."""

import flax.linen as nn
import jax


def max_pool(
    x: jax.Array, window: int, stride: int, *, padding: int = 0, ceil_mode: bool = False
) -> jax.Array:
    """Max over square windows; padding never wins.

    Args:
      x: (B, H, W, C).
      window, stride, padding: in pixels, equal along both axes; ``padding`` on every side.
      ceil_mode: rounds the output size up: the last window may hang over the far edge, as long as
        it starts inside the image or its near padding (PyTorch's rule).

    Returns:
      (B, H', W', C).
    """
    pads = []
    for size in x.shape[1:3]:
        free = size + 2 * padding - window
        cells = free // stride + 1
        if ceil_mode and free % stride and cells * stride < size + padding:
            cells += 1
        pads.append((padding, (cells - 1) * stride + window - size - padding))
    # A far pad below 0 only says that floor rounding leaves pixels over; reduce_window drops them.
    pads = [(near, max(far, 0)) for near, far in pads]
    return nn.max_pool(x, (window, window), (stride, stride), padding=pads)
