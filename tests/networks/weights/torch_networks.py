"""torchvision's networks, rebuilt from its state dicts' names: references that need no torchvision.

Channels are multiplied by ``width`` (with few channels a whole network runs in a second).
"""

import torch
import torch.nn.functional as F
from torch import nn


def randomise(network):
    """Random weights, biases and statistics; scales that keep the features' size."""
    generator = torch.Generator().manual_seed(0)
    # At gain 2 random MobileNets are chaotic: rounding alone moves their features by 1e-5.
    gain = 1.0 if isinstance(network, MobileNetV2) else 2.0
    state = network.state_dict()
    for name, value in state.items():
        noise = torch.randn(value.shape, generator=generator) if value.ndim else None
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.ndim > 1:
            value.copy_(noise * (gain / value[0].numel()) ** 0.5)
        elif value.ndim == 1:
            value.copy_(0.2 * noise)
    return network.eval()


class VGG16(nn.Module):
    def __init__(self, width=1.0, classes=None):
        super().__init__()
        layers, before = [], 3
        for channels, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(depth):
                layers += [nn.Conv2d(before, int(channels * width), 3, padding=1), nn.ReLU()]
                before = int(channels * width)
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        if classes is not None:
            hidden = int(4096 * width)
            self.classifier = nn.Sequential(
                *(nn.Linear(before * 49, hidden), nn.ReLU(), nn.Dropout()),
                *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()),
                nn.Linear(hidden, classes),
            )

    def forward(self, x):
        outputs = {}
        for index, layer in enumerate(self.features):
            x = layer(x)
            outputs[f"features.{index}"] = x
        if hasattr(self, "classifier"):
            outputs["logits"] = self.classifier(x.flatten(1))
        return outputs


class AlexNet(nn.Module):
    def __init__(self, width=1.0, classes=5):
        super().__init__()
        c = lambda channels: int(channels * width)
        pool = lambda: nn.MaxPool2d(3, 2)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, c(64), 11, 4, 2), nn.ReLU(), pool()),
            *(nn.Conv2d(c(64), c(192), 5, padding=2), nn.ReLU(), pool()),
            *(nn.Conv2d(c(192), c(384), 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(c(384), c(256), 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(c(256), c(256), 3, padding=1), nn.ReLU(), pool()),
        )
        self.average = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(c(256) * 36, c(4096)), nn.ReLU()),
            *(nn.Dropout(), nn.Linear(c(4096), c(4096)), nn.ReLU()),
            nn.Linear(c(4096), classes),
        )

    def forward(self, x):
        outputs = {}
        for index, layer in enumerate(self.features):
            x = outputs[f"features.{index}"] = layer(x)
        x = self.average(x).flatten(1)
        for index, layer in enumerate(self.classifier):
            x = outputs[f"classifier.{index}"] = layer(x)
        return outputs


def _conv_bn_relu6(before, after, kernel, stride=1, groups=1):
    pad = (kernel - 1) // 2
    conv = nn.Conv2d(before, after, kernel, stride, pad, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU6())


class _InvertedResidual(nn.Module):
    def __init__(self, before, after, stride, expansion):
        super().__init__()
        inner = before * expansion
        layers = [_conv_bn_relu6(before, inner, 1)] if expansion > 1 else []
        layers += [
            _conv_bn_relu6(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.BatchNorm2d(after),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and before == after

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, width=1.0, classes=None):
        super().__init__()
        # The widths tested keep every product a multiple of 8: no rounding rule to repeat here.
        before = int(32 * width)
        layers = [_conv_bn_relu6(3, before, 3, 2)]
        table = (
            *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
            *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
        )
        for expansion, channels, repeats, stride in table:
            for index in range(repeats):
                after = int(channels * width)
                stride_here = stride if index == 0 else 1
                layers.append(_InvertedResidual(before, after, stride_here, expansion))
                before = after
        last = int(1280 * max(1.0, width))
        layers.append(_conv_bn_relu6(before, last, 1))
        self.features = nn.Sequential(*layers)
        if classes is not None:
            self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(last, classes))

    def forward(self, x):
        outputs = {}
        for index, layer in enumerate(self.features):
            x = layer(x)
            outputs[f"features.{index}"] = x
        if hasattr(self, "classifier"):
            outputs["logits"] = self.classifier(x.mean((2, 3)))
        return outputs


class _BasicConv(nn.Module):
    def __init__(self, before, after, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


def _same(before, after, kernel):
    return _BasicConv(before, after, kernel, padding=((kernel[0] - 1) // 2, (kernel[1] - 1) // 2))


class _Block(nn.Module):
    """Named chains of convolutions; a subclass says how they are joined."""

    def chain(self, x, *names):
        for name in names:
            x = getattr(self, name)(x)
        return x


class _BlockA(_Block):
    def __init__(self, c, before, pool):
        super().__init__()
        self.branch1x1 = _same(before, c(64), (1, 1))
        self.branch5x5_1 = _same(before, c(48), (1, 1))
        self.branch5x5_2 = _same(c(48), c(64), (5, 5))
        self.branch3x3dbl_1 = _same(before, c(64), (1, 1))
        self.branch3x3dbl_2 = _same(c(64), c(96), (3, 3))
        self.branch3x3dbl_3 = _same(c(96), c(96), (3, 3))
        self.branch_pool = _same(before, c(pool), (1, 1))

    def forward(self, x):
        double = self.chain(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        five = self.chain(x, "branch5x5_1", "branch5x5_2")
        pooled = self.branch_pool(F.avg_pool2d(x, 3, 1, 1))
        return torch.cat([self.branch1x1(x), five, double, pooled], 1)


class _BlockB(_Block):
    def __init__(self, c, before, stride, padding):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.branch3x3 = _BasicConv(before, c(384), 3, stride, padding)
        self.branch3x3dbl_1 = _same(before, c(64), (1, 1))
        self.branch3x3dbl_2 = _same(c(64), c(96), (3, 3))
        self.branch3x3dbl_3 = _BasicConv(c(96), c(96), 3, stride, padding)

    def forward(self, x):
        double = self.chain(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        return torch.cat(
            [self.branch3x3(x), double, F.max_pool2d(x, 3, self.stride, self.padding)], 1
        )


class _BlockC(_Block):
    def __init__(self, c, before, inner):
        super().__init__()
        inner, out = c(inner), c(192)
        self.branch1x1 = _same(before, out, (1, 1))
        self.branch7x7_1 = _same(before, inner, (1, 1))
        self.branch7x7_2 = _same(inner, inner, (1, 7))
        self.branch7x7_3 = _same(inner, out, (7, 1))
        self.branch7x7dbl_1 = _same(before, inner, (1, 1))
        self.branch7x7dbl_2 = _same(inner, inner, (7, 1))
        self.branch7x7dbl_3 = _same(inner, inner, (1, 7))
        self.branch7x7dbl_4 = _same(inner, inner, (7, 1))
        self.branch7x7dbl_5 = _same(inner, out, (1, 7))
        self.branch_pool = _same(before, out, (1, 1))

    def forward(self, x):
        seven = self.chain(x, *(f"branch7x7_{i}" for i in (1, 2, 3)))
        double = self.chain(x, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)))
        pooled = self.branch_pool(F.avg_pool2d(x, 3, 1, 1))
        return torch.cat([self.branch1x1(x), seven, double, pooled], 1)


class _BlockD(_Block):
    def __init__(self, c, before):
        super().__init__()
        self.branch3x3_1 = _same(before, c(192), (1, 1))
        self.branch3x3_2 = _BasicConv(c(192), c(320), 3, 2)
        self.branch7x7x3_1 = _same(before, c(192), (1, 1))
        self.branch7x7x3_2 = _same(c(192), c(192), (1, 7))
        self.branch7x7x3_3 = _same(c(192), c(192), (7, 1))
        self.branch7x7x3_4 = _BasicConv(c(192), c(192), 3, 2)

    def forward(self, x):
        three = self.chain(x, "branch3x3_1", "branch3x3_2")
        seven = self.chain(x, *(f"branch7x7x3_{i}" for i in (1, 2, 3, 4)))
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)


class _BlockE(_Block):
    def __init__(self, c, before):
        super().__init__()
        self.branch1x1 = _same(before, c(320), (1, 1))
        self.branch3x3_1 = _same(before, c(384), (1, 1))
        self.branch3x3_2a = _same(c(384), c(384), (1, 3))
        self.branch3x3_2b = _same(c(384), c(384), (3, 1))
        self.branch3x3dbl_1 = _same(before, c(448), (1, 1))
        self.branch3x3dbl_2 = _same(c(448), c(384), (3, 3))
        self.branch3x3dbl_3a = _same(c(384), c(384), (1, 3))
        self.branch3x3dbl_3b = _same(c(384), c(384), (3, 1))
        self.branch_pool = _same(before, c(192), (1, 1))

    def forward(self, x):
        three = self.branch3x3_1(x)
        double = self.chain(x, "branch3x3dbl_1", "branch3x3dbl_2")
        pooled = self.branch_pool(F.avg_pool2d(x, 3, 1, 1))
        forks = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        forks += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *forks, pooled], 1)


class InceptionV3(nn.Module):
    """Standard geometry, or SPG's (facts of its released code: pads, ceil pools, Mixed_6a)."""

    def __init__(self, width=1.0, classes=None, spg=False):
        super().__init__()
        c = lambda channels: int(channels * width)
        self.spg = spg
        self.Conv2d_1a_3x3 = _BasicConv(3, c(32), 3, 2, 1 if spg else 0)
        self.Conv2d_2a_3x3 = _BasicConv(c(32), c(32), 3)
        self.Conv2d_2b_3x3 = _BasicConv(c(32), c(64), 3, padding=1)
        self.Conv2d_3b_1x1 = _BasicConv(c(64), c(80), 1)
        self.Conv2d_4a_3x3 = _BasicConv(c(80), c(192), 3)
        self.Mixed_5b = _BlockA(c, c(192), 32)
        self.Mixed_5c = _BlockA(c, c(256), 64)
        self.Mixed_5d = _BlockA(c, c(288), 64)
        self.Mixed_6a = _BlockB(c, c(288), 1 if spg else 2, 1 if spg else 0)
        self.Mixed_6b = _BlockC(c, c(768), 128)
        self.Mixed_6c = _BlockC(c, c(768), 160)
        self.Mixed_6d = _BlockC(c, c(768), 160)
        self.Mixed_6e = _BlockC(c, c(768), 192)
        self.AuxLogits = nn.Linear(3, 3)  # read by nobody: the readers must leave it out
        if not spg:
            self.Mixed_7a = _BlockD(c, c(768))
            self.Mixed_7b = _BlockE(c, c(1280))
            self.Mixed_7c = _BlockE(c, c(2048))
            self.fc = nn.Linear(c(2048), classes or 1)

    def forward(self, x):
        outputs = {}
        for name, layer in self.named_children():
            if name == "AuxLogits":
                continue
            if name == "fc":
                outputs["logits"] = layer(x.mean((2, 3)))
                continue
            x = layer(x)
            outputs[name] = x
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                pads = {"padding": 1, "ceil_mode": True} if self.spg else {}
                x = F.max_pool2d(x, 3, 2, **pads)
        return outputs
