"""LPIPS (Zhang et al., CVPR 2018) on VGG-16, for those who have its weights as safetensors.

The file holds `lpips.LPIPS(net="vgg").state_dict()` of the reference package, names unchanged.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

# Convolutions of VGG-16 up to relu5_3: by slice, the layer numbers within torchvision's model.
_SLICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class Lpips:
    """A `PerceptualLoss`: weighted distance of unit-length VGG features, mean over images."""

    def __init__(self, path: Path) -> None:
        """Read the weights. Raises ValueError when the file lacks one of them."""
        if not path.is_file():
            raise ValueError(
                f"no LPIPS weights at {path}: save lpips.LPIPS(net='vgg').state_dict() with "
                "safetensors there, or leave `lpips` out to train with the gradient pyramid"
            )
        state = load_file(path)
        try:
            self.filters = [
                [
                    (state[f"{name}.weight"], state[f"{name}.bias"])
                    for name in (f"net.slice{number}.{layer}" for layer in layers)
                ]
                for number, layers in enumerate(_SLICES, start=1)
            ]
            self.heads = [state[f"lin{number}.model.1.weight"] for number in range(len(_SLICES))]
        except KeyError as error:
            raise ValueError(f"{path.name} lacks {error}; it is not an LPIPS of VGG-16") from error

    def __call__(self, rendered: Tensor, target: Tensor) -> Tensor:
        """Scalar distance of images [C, 3, H, W] in 0..1; H and W at least 16."""
        count = len(rendered)
        features = torch.cat([rendered, target])
        shift = features.new_tensor(_SHIFT).view(1, 3, 1, 1)
        features = (2.0 * features - 1.0 - shift) / features.new_tensor(_SCALE).view(1, 3, 1, 1)
        total = rendered.new_zeros(())
        for number, (layers, head) in enumerate(zip(self.filters, self.heads, strict=True)):
            if number:
                features = F.max_pool2d(features, 2)
            for weight, bias in layers:
                features = F.conv2d(features, weight, bias, padding=1).relu()
            unit = F.normalize(features, dim=1, eps=1e-10)
            difference = (unit[:count] - unit[count:]).square()
            total = total + F.conv2d(difference, head).mean()
        return total
