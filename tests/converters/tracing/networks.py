"""Networks as people write them in torch, small."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A residual block."""

    def __init__(self, before, after, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        other = before != after or stride > 1
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)) if other else None
        )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, classes=5, width=4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(width, width), Block(width, width))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class VGG(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(True), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(True)),
            *(nn.MaxPool2d(2, 2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2, 2)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            *(nn.Linear(16 * 4, 20), nn.ReLU(True), nn.Dropout(), nn.Linear(20, 20), nn.ReLU(True), nn.Dropout()),
            nn.Linear(20, classes),
        )

    def forward(self, x):
        x = self.avgpool(self.features(x))
        return F.softmax(self.classifier(x.view(x.size(0), -1)), dim=1)


def double(before, after):
    return nn.Sequential(
        *(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)),
        *(nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)),
    )


class Up(nn.Module):
    """Twice as large, fitted to the map from the encoder, and joined with it."""

    def __init__(self, before, after, bilinear):
        super().__init__()
        self.up = (
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(before, before // 2, 1))
            if bilinear
            else nn.ConvTranspose2d(before, before // 2, 2, stride=2)
        )
        self.conv = double(before, after)

    def forward(self, x, skip):
        x = self.up(x)
        rows, columns = skip.size(2) - x.size(2), skip.size(3) - x.size(3)
        x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        return self.conv(torch.cat([skip, x], dim=1))


class UNet(nn.Module):
    def __init__(self, classes=3, width=4, bilinear=False):
        super().__init__()
        self.inc = double(3, width)
        self.pool = nn.MaxPool2d(2)
        self.down1, self.down2 = double(width, 2 * width), double(2 * width, 4 * width)
        self.up1, self.up2 = Up(4 * width, 2 * width, bilinear), Up(2 * width, width, bilinear)
        self.outc = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        first = self.inc(x)
        second = self.down1(self.pool(first))
        x = self.down2(self.pool(second))
        return self.outc(self.up2(self.up1(x, second), first))


class Unsayable(nn.Module):
    """Several things that Caffe has no layer for."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU())
        self.norm = nn.GroupNorm(2, 4)
        self.pool = nn.MaxPool2d(2, dilation=2)
        self.up = nn.Upsample((11, 7), mode="bicubic")

    def forward(self, x):
        x = self.norm(self.stem(x)).permute(0, 2, 3, 1).permute(0, 3, 1, 2)
        return torch.erf(self.up(self.pool(x)))
