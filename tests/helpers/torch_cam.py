"""Maps by pytorch-grad-cam of the network in ``helpers.explained``, with the same weights.

    python tests/helpers/torch_cam.py     # writes them beside the test that reads them

Needs PyTorch, torchvision and the package grad-cam.
"""

import pathlib
import sys

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np

from helpers import explained

FILE = pathlib.Path(__file__).parents[1] / "explain" / "pytorch_grad_cam.npz"
CLASS_OF = (0, 3, 2)
# Its alphas have a constant of 1e-6 in the denominator, which is nothing beside such gradients.
GAIN = 1000.0
NAMES = {
    "grad_cam": "GradCAM",
    "grad_cam_pp": "GradCAMPlusPlus",
    "xgrad_cam": "XGradCAM",
    "layer_cam": "LayerCAM",
    "score_cam": "ScoreCAM",
    "ablation_cam": "AblationCAM",
    "eigen_cam": "EigenCAM",
}


def torch_net():
    """Both convolutions at stride 1: features of the images' size, which nobody need enlarge."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Conv2d(3, explained.CHANNELS, 3, padding=1)
            self.relu = torch.nn.ReLU()
            self.two = torch.nn.Conv2d(explained.CHANNELS, explained.HIDDEN, 3, padding=1)
            self.scores = torch.nn.Linear(explained.HIDDEN, explained.CLASSES)

        def forward(self, x):
            x = self.relu(self.one(x))
            return self.scores(torch.relu(self.two(x)).mean(dim=(2, 3)))

    net = Net().eval()
    with torch.no_grad():
        for name, (kernel, bias) in explained.weights().items():
            layer = getattr(net, name)
            order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
            layer.weight.copy_(torch.tensor(kernel.transpose(order)))
            layer.bias.copy_(torch.tensor(bias))
    return net


def theirs() -> dict[str, np.ndarray]:
    """(B, H, W) by name, each stretched to 0..1 as they do."""
    import pytorch_grad_cam
    import torch

    images = torch.tensor(np.float32(explained.images().transpose(0, 3, 1, 2)))
    found = {}
    for name, kind in NAMES.items():
        net = torch_net()
        gain = GAIN if name == "grad_cam_pp" else 1.0
        targets = [lambda out, c=c, gain=gain: gain * out[c] for c in CLASS_OF]
        cam = getattr(pytorch_grad_cam, kind)(model=net, target_layers=[net.relu])
        found[name] = np.asarray(cam(input_tensor=images, targets=targets), np.float32)
    return found


if __name__ == "__main__":
    np.savez_compressed(FILE, **theirs())
    print(FILE)
