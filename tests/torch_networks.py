"""Networks for ImageNet in PyTorch, after the papers, with torchvision's names."""

import torch
from torch import nn


class BasicBlock(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = projection(before, after, stride)

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        narrow = after // 4
        self.conv1 = nn.Conv2d(before, narrow, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample = projection(before, after, stride)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


def projection(before, after, stride):
    if stride == 1 and before == after:
        return None
    layer = nn.Conv2d(before, after, 1, stride, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(after))


class ResNet(nn.Module):
    def __init__(self, block, depths, widths, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        for i, depth in enumerate(depths):
            blocks = [block(widths[i], widths[i + 1], 1 if i == 0 else 2)]
            blocks += [block(widths[i + 1], widths[i + 1], 1) for _ in range(1, depth)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class EncoderLayer(nn.Module):
    def __init__(self, channels, heads, names):
        super().__init__()
        self.ln_1 = nn.LayerNorm(channels, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(channels, eps=1e-6)
        layers = [
            *(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Identity()),
            nn.Linear(4 * channels, channels),
        ]
        self.mlp = nn.Sequential()
        for name, layer in zip(names, layers, strict=True):
            self.mlp.add_module(name, layer)

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class VisionTransformer(nn.Module):
    def __init__(self, size, patch, channels, depth, heads, classes, old_names=False):
        super().__init__()
        names = ("0", "1", "2", "3")
        if old_names:
            names = ("linear_1", "act", "dropout", "linear_2")
        self.class_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.conv_proj = nn.Conv2d(3, channels, patch, patch)
        self.encoder = nn.Module()
        tokens = (size // patch) ** 2 + 1
        self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, tokens, channels))
        self.encoder.layers = nn.Sequential()
        for i in range(depth):
            layer = EncoderLayer(channels, heads, names)
            self.encoder.layers.add_module(f"encoder_layer_{i}", layer)
        self.encoder.ln = nn.LayerNorm(channels, eps=1e-6)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(channels, classes))

    def forward(self, x):
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(x), -1, -1)
        x = torch.cat([first, x], dim=1) + self.encoder.pos_embedding
        return self.heads(self.encoder.ln(self.encoder.layers(x))[:, 0])


PUBLISHED = {
    "resnet18": lambda: resnet(BasicBlock, (2, 2, 2, 2), (64, 64, 128, 256, 512)),
    "resnet34": lambda: resnet(BasicBlock, (3, 4, 6, 3), (64, 64, 128, 256, 512)),
    "resnet50": lambda: resnet(Bottleneck, (3, 4, 6, 3), (64, 256, 512, 1024, 2048)),
    "vit_b": lambda: VisionTransformer(224, 16, 768, 12, 12, 1000),
}


def resnet(block, depths, widths, classes=1000):
    return ResNet(block, depths, widths, classes)


def with_random_values(network):
    """The network in inference mode, all of its parameters and statistics random."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            spread = torch.rand(value.shape, generator=generator) - 0.5
            fan_in = value[0].numel() if value.ndim > 1 else 4
            center = 1.0 if value.ndim == 1 and "bias" not in name else 0.0
            value.copy_(center + 2 * spread * fan_in**-0.5)
    return network.eval()
