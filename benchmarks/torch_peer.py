"""The two networks and their training step in plain PyTorch: the peer of train_step.py.

Modules carry this project's names, so that ``copy_variables`` needs no table. What
train_step.py times on both sides: the same layers at the same map sizes, BatchNorm with stored
statistics, dropout before the class maps, SPG's masks (the released code's thresholds) and its
three losses, SGD with momentum in two groups.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

IGNORE = 255


class VggTrunk(nn.Module):
    """VGG16 to conv5_3: four pools, maps of 1/16."""

    channels_out = 512

    def __init__(self, width: float):
        super().__init__()
        before = 3
        self.blocks = []
        for block, (channels, depth) in enumerate(
            ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1
        ):
            names = [f"conv{block}_{index}" for index in range(1, depth + 1)]
            for name in names:
                self.add_module(name, nn.Conv2d(before, int(channels * width), 3, padding=1))
                before = int(channels * width)
            self.blocks.append(names)

    def forward(self, x):
        for block, names in enumerate(self.blocks):
            x = F.max_pool2d(x, 2) if block else x
            for name in names:
                x = F.relu(self.get_submodule(name)(x), inplace=True)
        return {"conv5_3": x}


class ConvBN(nn.Module):
    def __init__(self, before, after, kernel=(1, 1), stride=1, padding=None):
        super().__init__()
        padding = tuple(k // 2 for k in kernel) if padding is None else padding
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)

    def train(self, mode=True):
        return super().train(False)  # stored statistics, as for a pretrained network


class Mixed(nn.Module):
    """Branches side by side: each a list of ("average" | "maximum" | (name, channels, kernel))."""

    def __init__(self, before, branches):
        super().__init__()
        self.branches, self.channels_out = [], 0
        for branch in branches:
            chain, inside = [], before
            for layer in branch:
                if not isinstance(layer, str):
                    name, after, kernel = layer
                    self.add_module(name, ConvBN(inside, after, kernel))
                    inside, layer = after, name
                chain.append(layer)
            self.branches.append(chain)
            self.channels_out += inside

    def forward(self, x):
        outputs = []
        for chain in self.branches:
            y = x
            for layer in chain:
                if layer == "average":
                    y = F.avg_pool2d(y, 3, 1, 1)
                elif layer == "maximum":
                    y = F.max_pool2d(y, 3, 1, 1)
                else:
                    y = self.get_submodule(layer)(y)
            outputs.append(y)
        return torch.cat(outputs, 1)


def _mixed_5(c, pool):
    one, three, five = (1, 1), (3, 3), (5, 5)
    double = [(f"branch3x3dbl_{i}", c(n), k) for i, n, k in ((1, 64, one), (2, 96, three))]
    return (
        [("branch1x1", c(64), one)],
        [("branch5x5_1", c(48), one), ("branch5x5_2", c(64), five)],
        [*double, ("branch3x3dbl_3", c(96), three)],
        ["average", ("branch_pool", c(pool), one)],
    )


def _mixed_6a(c):
    one, three = (1, 1), (3, 3)
    names = (("branch3x3dbl_1", 64, one), ("branch3x3dbl_2", 96, three))
    return (
        [("branch3x3", c(384), three)],
        [*((name, c(n), k) for name, n, k in names), ("branch3x3dbl_3", c(96), three)],
        ["maximum"],
    )


def _mixed_6(c, inner):
    wide, tall, i, out = (1, 7), (7, 1), c(inner), c(192)
    one = (1, 1)
    seven = ((1, i, one), (2, i, wide), (3, out, tall))
    double = ((1, i, one), (2, i, tall), (3, i, wide), (4, i, tall), (5, out, wide))
    return (
        [("branch1x1", out, one)],
        [(f"branch7x7_{k}", n, size) for k, n, size in seven],
        [(f"branch7x7dbl_{k}", n, size) for k, n, size in double],
        ["average", ("branch_pool", out, one)],
    )


class InceptionTrunk(nn.Module):
    """Inception-v3 in SPG's geometry, to Mixed_6e: maps of 1/8."""

    def __init__(self, width: float):
        super().__init__()
        c = lambda channels: int(channels * width)
        self.Conv2d_1a_3x3 = ConvBN(3, c(32), (3, 3), 2, 1)
        self.Conv2d_2a_3x3 = ConvBN(c(32), c(32), (3, 3), padding=0)
        self.Conv2d_2b_3x3 = ConvBN(c(32), c(64), (3, 3))
        self.Conv2d_3b_1x1 = ConvBN(c(64), c(80))
        self.Conv2d_4a_3x3 = ConvBN(c(80), c(192), (3, 3), padding=0)
        blocks = {
            **{f"Mixed_5{k}": _mixed_5(c, n) for k, n in zip("bcd", (32, 64, 64), strict=True)},
            "Mixed_6a": _mixed_6a(c),
            **{
                f"Mixed_6{k}": _mixed_6(c, n)
                for k, n in zip("bcde", (128, 160, 160, 192), strict=True)
            },
        }
        self.names, before = list(blocks), c(192)
        self.channels = {}
        for name, branches in blocks.items():
            self.add_module(name, Mixed(before, branches))
            before = self.channels[name] = self.get_submodule(name).channels_out

    def forward(self, x):
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        endpoints = {}
        for name in self.names:
            x = endpoints[name] = self.get_submodule(name)(x)
        return endpoints


class Head(nn.Module):
    def __init__(self, before, channels, layers, classes, dropout):
        super().__init__()
        self.layers, self.dropout = [f"conv{i + 1}" for i in range(layers)], dropout
        for name in self.layers:
            self.add_module(name, nn.Conv2d(before, channels, 3, padding=1))
            before = channels
        self.class_maps = nn.Conv2d(before, classes, 1)

    def forward(self, x):
        for name in self.layers:
            x = F.relu(self.get_submodule(name)(x))
        maps = self.class_maps(F.dropout(x, self.dropout)).float()
        return maps.mean((2, 3)), maps, x


class Branches(nn.Module):
    def __init__(self, b1, b2, c, channels):
        super().__init__()
        self.b1_adapt = nn.Conv2d(b1, channels, 3, padding=1)
        self.b2_adapt = nn.Conv2d(b2, channels, 3, padding=1)
        self.b_shared = nn.Conv2d(channels, channels, 3, padding=1)
        self.b_shared_out = nn.Conv2d(channels, 1, 1)
        self.c_conv = nn.Conv2d(c, channels, 3, padding=1)
        self.c_out = nn.Conv2d(channels, 1, 1)

    def forward(self, b1, b2, c):
        shared = lambda x: self.b_shared_out(F.relu(self.b_shared(F.relu(x))))
        return (
            shared(self.b1_adapt(b1)).float(),
            shared(self.b2_adapt(b2)).float(),
            self.c_out(F.relu(self.c_conv(c))).float(),
        )


def _normalise(images, kind):
    x = images.float()
    if kind == "tf":
        return x / 127.5 - 1
    return x.flip(1) - x.new_tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)


def seed_mask(maps, high, low, min_foreground):
    """(B, 1, H, W) in [0, 1] -> 0 background, 1 object, 255 ignored (SPG, eq. 1)."""
    few = (maps > high).sum((2, 3), keepdim=True) < min_foreground
    peak = maps.amax((2, 3), keepdim=True)
    threshold = torch.where(few, 0.7 * peak, torch.full_like(peak, high))
    mask = torch.where(maps > threshold, 1.0, float(IGNORE))
    return torch.where(maps < low, 0.0, mask)


def masked_bce(logits, mask):
    labelled = (mask != IGNORE).float()
    sums = F.binary_cross_entropy_with_logits(
        logits, (mask == 1).float(), weight=labelled, reduction="sum"
    )
    return sums / labelled.sum().clamp(min=1)


class Network(nn.Module):
    """CAM or SPG; ``forward`` is the loss."""

    def __init__(self, config, classes: int):
        super().__init__()
        model = config.model
        self.kind, self.endpoint = model.preprocessing, model.final_endpoint
        if model.backbone == "vgg16":
            self.backbone = VggTrunk(model.width)
            before = int(512 * model.width)
        else:
            self.backbone = InceptionTrunk(model.width)
            before = self.backbone.channels[self.endpoint]
        self.head = Head(before, model.head_channels, model.head_layers, classes, model.dropout)
        self.spg = config.spg.to_dict() if config.method == "spg" else None
        if self.spg:
            taps = [self.backbone.channels[self.spg[f"{b}_endpoint"]] for b in ("b1", "b2")]
            self.branches = Branches(*taps, model.head_channels, self.spg["channels"])

    def forward(self, images, labels):
        """(B, 3, H, W) uint8, (B,) int64 -> the training loss."""
        size = images.shape[2:]
        endpoints = self.backbone(_normalise(images, self.kind))
        logits, maps, features = self.head(endpoints[self.endpoint])
        loss = F.cross_entropy(logits, labels)
        if not self.spg:
            return loss
        options = self.spg
        taps = (endpoints[options[f"{b}_endpoint"]] for b in ("b1", "b2"))
        resize = lambda x: F.interpolate(x, size, mode="bilinear", align_corners=False)
        b1, b2, c = map(resize, self.branches(*taps, features))
        with torch.no_grad():
            index = labels.view(-1, 1, 1, 1).expand(-1, 1, *maps.shape[2:])
            a = resize(maps.gather(1, index))
            low, peak = a.amin((2, 3), keepdim=True), a.amax((2, 3), keepdim=True)
            a = torch.where(peak > low, (a - low) / (peak - low), 0.0)
            p1, p2 = b1.sigmoid(), b2.sigmoid()
            stages = (("b2", a), ("b1", p2), ("c", (p1 + p2) / 2))
            masks = {
                name: seed_mask(x, *options[f"seeds_{name}"], options["min_foreground"])
                for name, x in stages
            }
        for name, x in (("b2", b2), ("b1", b1), ("c", c)):
            loss = loss + options[f"weight_{name}"] * masked_bce(x, masks[name])
        return loss


_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def copy_variables(network: nn.Module, params, batch_stats) -> int:
    """Writes this project's arrays into the network; returns the number of parameters copied.

    Raises:
      ValueError: an array has no counterpart, or the other way round, or their shapes differ.
    """
    state = network.state_dict()
    left = {name for name in state if not name.endswith("num_batches_tracked")}
    total = 0

    def walk(tree, path):
        nonlocal total
        if hasattr(tree, "items"):
            for key, value in tree.items():
                walk(value, [*path, key])
            return
        array = np.asarray(tree)
        name = ".".join([*path[1:-1], _LEAVES.get(path[-1], path[-1])])
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
        if name not in left or tuple(state[name].shape) != array.shape:
            raise ValueError(f"no counterpart of {name} {array.shape} in PyTorch")
        state[name].copy_(torch.from_numpy(np.array(array)))
        left.remove(name)
        total += array.size if path[0] == "params" else 0

    with torch.no_grad():
        walk(params, ["params"])
        walk(batch_stats, ["batch_stats"])
    if left:
        raise ValueError(f"no counterpart of {sorted(left)[:5]} in JAX")
    return total


class Step:
    """A training step of the peer, as JAX's ``(state, batch) -> metrics``: call with no arguments.

    Args:
      autocast: whether convolutions run in bfloat16 (parameters stay float32, as in JAX).
      compiled: whether loss and backward pass go through torch.compile.
    """

    def __init__(self, network, options, images, labels, device, layout, autocast, compiled):
        self.network = network.to(device=device, memory_format=layout).train()
        groups = {"backbone": [], "head": []}
        for name, parameter in self.network.named_parameters():
            groups["backbone" if name.startswith("backbone.") else "head"].append(parameter)
        self.optimizer = torch.optim.SGD(
            [dict(params=p, lr=options[f"{part}_lr"]) for part, p in groups.items()],
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            nesterov=options.nesterov,
            fused=True,  # the fastest of its three implementations, on CPU too
        )
        self.images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)
        self.images = self.images.contiguous(memory_format=layout)
        self.labels = torch.from_numpy(labels.astype(np.int64)).to(device)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=autocast)
        self.loss = torch.compile(self.network) if compiled else self.network

    def __call__(self):
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast:
            loss = self.loss(self.images, self.labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def gradient_norm(self) -> float:
        """Of the last step."""
        return float(torch.nn.utils.get_total_norm(p.grad for p in self.network.parameters()))
