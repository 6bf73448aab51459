"""A ResNet of torch.nn, written as torchvision's is: what ours is held against."""

import torch
from torch import nn


class TorchBasic(nn.Module):
    def __init__(self, inputs, outputs, stride, downsample, in_bottleneck):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = downsample

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchBottleneck(nn.Module):
    def __init__(self, inputs, outputs, stride, downsample, in_bottleneck):
        super().__init__()
        width, (first, second) = outputs // 4, (stride, 1) if in_bottleneck else (1, stride)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchResNet(nn.Module):
    def __init__(self, config, num_classes=1000):
        super().__init__()
        channels = config.embedding_size
        self.conv1 = nn.Conv2d(config.num_channels, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for number, (depth, width) in enumerate(zip(config.depths, config.hidden_sizes, strict=True), start=1):
            stride = 2 if number > 1 or config.downsample_in_first_stage else 1
            blocks = []
            for _ in range(depth):
                blocks.append(torch_block(config.layer_type, channels, width, stride, config.downsample_in_bottleneck))
                channels, stride = width, 1
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        found, number = [], 1
        while hasattr(self, f"layer{number}"):
            x = getattr(self, f"layer{number}")(x)
            found.append(x)
            number += 1
        return tuple(found)

    def forward(self, x):
        return self.fc(torch.flatten(self.avgpool(self.features(x)[-1]), 1))


class TorchShortcut(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.extra, self.stride = channels, stride

    def forward(self, x):
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class TorchCifarResNet(nn.Module):
    def __init__(self, depth, channels=3):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        width = 16
        for number, out in enumerate((16, 32, 64), start=1):
            blocks = []
            for index in range((depth - 2) // 6):
                stride = 2 if number > 1 and index == 0 else 1
                blocks.append(
                    TorchBasic(width, out, stride, TorchShortcut(out - width, stride) if out != width else None, 0)
                )
                width = out
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


def torch_block(layer_type, inputs, outputs, stride=1, in_bottleneck=False):
    downsample = None
    if inputs != outputs or stride != 1:
        downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    block = {"basic": TorchBasic, "bottleneck": TorchBottleneck}[layer_type]
    return block(inputs, outputs, stride, downsample, in_bottleneck)


def shake(module, seed=0):
    """Weights, biases and running statistics of norms that are not the same everywhere."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.dim() == 1:
                drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(drawn + 0.5 if name.endswith(("weight", "var")) else drawn - 0.5)
    return module
