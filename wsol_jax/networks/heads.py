"""Heads on a backbone's endpoints: class maps, SPG's branches, DeepLab's LargeFOV."""

import functools
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from wsol_jax.networks.backbones.convolution import conv_general_dilated
from wsol_jax.ops import cam

_Conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)


class CamHead(nn.Module):
    """Class maps by a fully convolutional classifier, pooled to logits (Zhou 2016; ACoL 2018).

    Attributes:
      num_classes: C.
      channels: width of the layers before the class maps.
      layers: how many of them; 0 puts the 1x1 class-map layer straight onto the features.
      kernel: a side of their kernels.
      dropout: rate before the class-map layer.
      map_mean: mean of the class-map layer's first weights. What all classes' maps share moves no
        class score against another, so the cross-entropy leaves it alone: above 0, every map
        carries the features' brightness beside what tells its class.
      dtype: of the computation; maps and logits are float32 whatever it is.
    """

    num_classes: int
    channels: int = 1024
    layers: int = 1
    kernel: int = 3
    dropout: float = 0.0
    map_mean: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False):
        """(B, H, W, D) -> logits (B, C), maps (B, H, W, C), features before the maps."""
        for layer in range(self.layers):
            window = (self.kernel, self.kernel)
            conv = _Conv(self.channels, window, dtype=self.dtype, name=f"conv{layer + 1}")
            features = nn.relu(conv(features))
        x = nn.Dropout(self.dropout, deterministic=not train)(features)
        # Small first weights: the first steps follow the classes' means, not chance.
        small = nn.initializers.normal(1e-3)
        init = lambda *args: small(*args) + self.map_mean
        maps = _Conv(
            self.num_classes, (1, 1), dtype=self.dtype, kernel_init=init, name="class_maps"
        )(x)
        maps = maps.astype(jnp.float32)
        return cam.class_logits(maps), maps, features


class FcnHead(nn.Module):
    """conv6, conv7, average, and a bias-free classifier: the CAM network of SEC (Kolesnikov 2016).

    Two 3x3 layers with dropout behind each; conv7 has no ReLU. The classifier behind the average
    is linear, so it may as well stand before it, where its values are the class maps. Its weights
    learn at a rate of their own, ``optimizer.classifier_lr``.

    Attributes:
      num_classes: C.
      channels: of conv6 and conv7.
      dropout: rate.
      dtype: of the computation; maps and logits are float32 whatever it is.
    """

    num_classes: int
    channels: int = 1024
    dropout: float = 0.5
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False):
        """(B, H, W, D) -> logits (B, C), maps (B, H, W, C), features before the maps."""
        conv = functools.partial(_Conv, dtype=self.dtype, kernel_init=nn.initializers.normal(5e-3))
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = drop(nn.relu(conv(self.channels, (3, 3), name="conv6")(features)))
        x = drop(conv(self.channels, (3, 3), name="conv7")(x))
        maps = conv(self.num_classes, (1, 1), use_bias=False, name="class_maps")(x)
        maps = maps.astype(jnp.float32)
        return cam.class_logits(maps), maps, x


class DenseHead(nn.Module):
    """fc6, fc7, fc8 on all cells at once: SEC's network for the background cue (Kolesnikov 2016).

    VGG's own classifier, narrower and with new weights. It fixes the image's size and knows no
    places: its class maps have a single cell. fc8 learns at ``optimizer.classifier_lr``.

    Attributes:
      num_classes: C.
      channels: of fc6 and fc7.
      dropout: rate behind fc6 and fc7; the released network has none.
      dtype: of the computation; maps and logits are float32 whatever it is.
    """

    num_classes: int
    channels: int = 1024
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False):
        """(B, H, W, D) -> logits (B, C), maps (B, 1, 1, C), features before the maps."""
        dense = functools.partial(
            nn.Dense, dtype=self.dtype, kernel_init=nn.initializers.normal(5e-3)
        )
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = features.reshape(len(features), 1, 1, -1)
        x = drop(nn.relu(dense(self.channels, name="fc6")(x)))
        x = drop(nn.relu(dense(self.channels, name="fc7")(x)))
        maps = dense(self.num_classes, name="fc8")(x).astype(jnp.float32)
        return cam.class_logits(maps), maps, x


def non_negative(scale: float = 3.0) -> nn.initializers.Initializer:
    """Initialises a layer that adds its inputs up: |normal| values of mean 0.8 * scale / fan-in."""

    def init(key, shape, dtype=jnp.float32):
        fan_in = math.prod(shape[:-1])
        return jnp.abs(jax.random.normal(key, shape, dtype)) * (scale / fan_in)

    return init


class SpgBranches(nn.Module):
    """SPG-B on two intermediate features and SPG-C on the last one (Zhang 2018, section 3.3).

    B1 and B2 each adapt their input by a 3x3 layer of their own; the layers after it are shared, so
    that both look for the same regions. Every branch ends in one logit a cell.

    Attributes:
      channels: width of the branches, 512. The 288 and 768 of the paper's first layers are read as
        the channels that come in, since the layer behind them is shared.
      share_b: False: the layers after the first are B1's and B2's own too (section 4.3).
      c_layers: 3x3 layers of SPG-C: 2 in the paper, 1 in its code; 0: there is no SPG-C.
      c_start: how SPG-C's weights begin. "random" as the other layers'; "non_negative" makes it a
        sum of the features' activations less 2, so that its loss can only be met by features that
        are dark outside the object and bright in it, and not by a clever reading of any features.
      dtype: of the computation; logits are float32 whatever it is.
    """

    channels: int = 512
    share_b: bool = True
    c_layers: int = 1
    c_start: Literal["random", "non_negative"] = "random"
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, b1: jax.Array, b2: jax.Array, c: jax.Array) -> dict[str, jax.Array]:
        """Three features (B, H, W, D) -> {"b1", "b2", "c"}: logits (B, H, W), float32.

        Without layers in SPG-C there is no "c".
        """

        def conv(name, channels=self.channels, size=3, **init):
            return _Conv(channels, (size, size), dtype=self.dtype, name=name, **init)

        c_conv, c_out = {}, {}
        if self.c_start == "non_negative":
            c_conv = dict(kernel_init=non_negative())
            c_out = dict(c_conv, bias_init=nn.initializers.constant(-2.0))

        of_both = (conv("b_shared"), conv("b_shared_out", 1, 1)) if self.share_b else ()
        logits = {}
        for name, features in (("b1", b1), ("b2", b2)):
            x = nn.relu(conv(f"{name}_adapt")(features))
            second, out = of_both or (conv(f"{name}_conv"), conv(f"{name}_out", 1, 1))
            logits[name] = out(nn.relu(second(x)))
        for name in ("c_conv", "c_conv2")[: self.c_layers]:
            c = nn.relu(conv(name, **c_conv)(c))
        if self.c_layers:
            logits["c"] = conv("c_out", 1, 1, **c_out)(c)
        return {name: x[..., 0].astype(jnp.float32) for name, x in logits.items()}


class LargeFovHead(nn.Module):
    """DeepLab-LargeFOV: average, fc6 (dilated), fc7 (1x1), fc8 (Chen 2015; SEC's segmenter).

    Attributes:
      num_classes: of fc8, background included.
      channels: of fc6 and fc7.
      window: a side of fc6's kernel.
      dilation: of fc6, in cells: 12 at a stride of 8 pixels.
      average: a 3x3 mean at stride 1 first, SEC's pool5a; past the border counts as 0, as in Caffe.
      dropout: rate behind fc6 and fc7.
      last_deviation: of fc8's first weights.
      dtype: of the computation; the scores are float32 whatever it is.
    """

    num_classes: int
    channels: int = 1024
    window: int = 3
    dilation: int = 12
    average: bool = True
    dropout: float = 0.5
    last_deviation: float = 1e-2
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """(B, h, w, D) -> class scores before softmax (B, h, w, num_classes), features of fc7."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        conv = functools.partial(_Conv, dtype=self.dtype)
        x = features
        if self.average:
            x = nn.avg_pool(x, (3, 3), padding="SAME")
        window = (self.window, self.window)
        x = conv(self.channels, window, kernel_dilation=self.dilation, name="fc6")(x)
        x = drop(nn.relu(x))
        x = drop(nn.relu(conv(self.channels, (1, 1), name="fc7")(x)))
        small = nn.initializers.normal(self.last_deviation)
        scores = conv(self.num_classes, (1, 1), kernel_init=small, name="fc8")(x)
        return scores.astype(jnp.float32), x


class RegionHead(nn.Module):
    """Fast R-CNN's classifier on pooled regions: fc6, fc7, fc8 (Girshick 2015; MCOF's RegionNet).

    fc6 and fc7 are convolutions that see all of a region at once, so that VGG's own fully connected
    layers load into them as into ``LargeFovHead``'s.

    Attributes:
      num_classes: of fc8, background included.
      channels: of fc6 and fc7; 4096 in VGG.
      dropout: rate behind fc6 and fc7.
      dtype: of the computation; the scores are float32 whatever it is.
    """

    num_classes: int
    channels: int = 4096
    dropout: float = 0.5
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, pooled: jax.Array, train: bool = False) -> jax.Array:
        """(N, P, P, D) -> class scores before softmax (N, num_classes)."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        conv = functools.partial(_Conv, dtype=self.dtype)
        x = conv(self.channels, pooled.shape[1:3], padding="VALID", name="fc6")(pooled)
        x = drop(nn.relu(x))
        x = drop(nn.relu(conv(self.channels, (1, 1), name="fc7")(x)))
        small = nn.initializers.normal(1e-2)
        scores = conv(self.num_classes, (1, 1), kernel_init=small, name="fc8")(x)
        return scores[:, 0, 0].astype(jnp.float32)
