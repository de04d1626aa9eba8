"""What the tests of several networks need."""

import pytest

from tests.converters.emitted import NARROW


@pytest.fixture
def narrow(monkeypatch):
    """VGG16's stages and the fully connected layers with few channels; SegNet-Basic's 64 stay."""
    monkeypatch.setattr("segnet.networks.vgg16.VGG16_STAGES", NARROW)
    for module in ("fcn8s", "deeplab", "deconv"):
        monkeypatch.setattr(f"segnet.networks.{module}.FEATURES", 16)
