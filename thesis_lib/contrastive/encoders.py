"""Encoders and heads: residual networks (He et al. 2016, arXiv 1512.03385) for pictures of any size."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import ResNet18_Weights, ResNet50_Weights, resnet18, resnet50
from torchvision.models.resnet import BasicBlock, ResNet

from thesis_lib.errors import ThesisError
from thesis_lib.sections import EncoderParameters
from thesis_lib.tensors import load_tensors, save_tensors

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class NarrowResNet10(nn.Module):
    """Four residual blocks of `width`, 2, 4 and 8 times `width` channels.

    Args:
        width: Channels of the first block.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(3, 2, 1)
        channels = [width * 2**i for i in range(4)]
        blocks = []
        for i, out in enumerate(channels):
            before, stride = channels[max(i - 1, 0)], 1 if i == 0 else 2
            shortcut = None
            if stride != 1 or before != out:
                shortcut = nn.Sequential(nn.Conv2d(before, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            blocks.append(BasicBlock(before, out, stride, shortcut))
        self.layers = nn.Sequential(*blocks)
        self.num_features = channels[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 3, h, w) to features (n, 8 * width)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layers(x).mean((2, 3))


class Encoder(nn.Module):
    """A residual network on normalised pictures; its output is the penultimate layer of a classifier.

    Args:
        parameters: Architecture, width, stem and weights.
        mean, std: Per-channel statistics for normalising pictures in [0, 1]; kept with the weights.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, parameters: EncoderParameters, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.settings = parameters
        if parameters.weights == "imagenet":
            mean, std = torch.tensor(IMAGENET)
        self.register_buffer("mean", mean.float().view(1, 3, 1, 1).clone())
        self.register_buffer("std", std.float().view(1, 3, 1, 1).clone())
        backbone: NarrowResNet10 | ResNet
        if parameters.architecture == "resnet10":
            backbone = NarrowResNet10(parameters.width)
            self.num_features = backbone.num_features
        else:
            full = resnet18() if parameters.architecture == "resnet18" else resnet50()
            self.num_features = full.fc.in_features
            full.fc = nn.Identity()  # type: ignore[assignment]
            backbone = full
        if parameters.weights is not None:
            _load_weights(backbone, parameters)
        if parameters.stem == "small":
            width = backbone.conv1.out_channels
            backbone.conv1 = nn.Conv2d(3, width, 3, 2, 1, bias=False)
            backbone.maxpool = nn.Identity()  # type: ignore[assignment]
            nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.backbone = backbone

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 3, h, w) in [0, 1] to features (n, num_features)."""
        return self.backbone((pictures - self.mean) / self.std)


def _load_weights(backbone: nn.Module, parameters: EncoderParameters) -> None:
    if parameters.weights == "imagenet":
        if parameters.architecture == "resnet10":
            raise ThesisError("encoder.weights: there are no ImageNet weights for resnet10; use resnet18 or resnet50")
        weights = ResNet18_Weights.DEFAULT if parameters.architecture == "resnet18" else ResNet50_Weights.DEFAULT
        try:
            state = dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
        except OSError as error:
            raise ThesisError(
                f"encoder.weights: cannot download {weights.url} ({error}); give a safetensors file instead"
            ) from error
    else:
        path = Path(str(parameters.weights))
        if path.suffix != ".safetensors" or not path.is_file():
            raise ThesisError(f"encoder.weights: {path} is not a safetensors file; nothing else is loaded")
        state = load_file(path)
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        raise ThesisError(
            f"encoder.weights: {parameters.weights} does not fit {parameters.architecture}: {str(error)[:300]}"
        ) from None


class ProjectionHead(nn.Sequential):
    """A two-layer perceptron onto the unit sphere, thrown away after pre-training (Chen et al. 2020, arXiv 2002.05709).

    Args:
        num_features: Width of the encoder's output.
        hidden, out: Widths of the two layers.
    """

    def __init__(self, num_features: int, hidden: int, out: int) -> None:
        super().__init__(nn.Linear(num_features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (n, num_features) to unit vectors (n, out)."""
        return F.normalize(super().forward(features), dim=-1)


class UnitSphere(nn.Module):
    """No projection head: the loss acts on the normalised representation itself, which is then what is used."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (n, d) to unit vectors (n, d)."""
        return F.normalize(features, dim=-1)


class Classifier(nn.Module):
    """A linear classifier on standardised features.

    Standardising with the training features' statistics makes one learning rate fit every encoder.

    Args:
        num_features: Width of the features.
        num_classes: Number of classes.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (n, num_features) to logits (n, num_classes)."""
        return self.linear((features - self.mean) / self.std)


def save_network(folder: Path, **modules: nn.Module) -> None:
    """Write each module's state to `folder`/<name>.safetensors; an encoder's file says how it is built."""
    for name, module in modules.items():
        settings = {"encoder": module.settings.model_dump(mode="json")} if isinstance(module, Encoder) else {}
        save_tensors(folder / f"{name}.safetensors", module.state_dict(), **settings)


def load_encoder(path: Path) -> Encoder:
    """An encoder that `save_network` wrote, frozen, in evaluation mode.

    Raises:
        ThesisError: The file is missing or does not say how the encoder is built.
    """
    state, metadata = load_tensors(path)
    if "encoder" not in metadata:
        raise ThesisError(f"{path} is no encoder of this project: give an encoder.safetensors that notebook 05 wrote")
    settings = EncoderParameters.model_validate(metadata["encoder"] | {"weights": None})
    encoder = Encoder(settings, torch.zeros(3), torch.ones(3))
    encoder.load_state_dict(state)
    return encoder.eval().requires_grad_(False)


def load_network(folder: Path, parameters: EncoderParameters, num_classes: int) -> tuple[Encoder, Classifier]:
    """The trained encoder and linear classifier of an arm, in evaluation mode.

    Raises:
        ThesisError: The folder has no trained network, or one of another shape.
    """
    fresh = parameters.model_copy(update={"weights": None})
    encoder = Encoder(fresh, torch.zeros(3), torch.ones(3))
    classifier = Classifier(encoder.num_features, num_classes)
    for name, module in (("encoder", encoder), ("classifier", classifier)):
        try:
            module.load_state_dict(load_tensors(folder / f"{name}.safetensors")[0])
        except RuntimeError:
            raise ThesisError(
                f"{folder}: its network is of other parameters or classes than these: run notebook 05 again"
            ) from None
    return encoder.eval(), classifier.eval()
