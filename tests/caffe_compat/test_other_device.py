"""Every layer type away from the CPU: nothing of it is left behind there."""

import pytest
import torch

import caffe_compat as caffe
from tests.other_device import DEVICE, Watch
from tests.recorded import GOLDEN

CASES = sorted((GOLDEN / "layers").glob("*/*.prototxt"))
# The lattice of a CRF is made on the CPU, from the colours of the image; its sizes are numbers that Python counts with.
FROM_COLOURS = {"crf_rnn", "crf_dense_image", "crf_dense_position_only"}


def test_watch_sees_what_meets_and_what_is_asked():
    there, here = torch.ones(3, device=DEVICE), torch.ones(3)
    with Watch() as watch:
        assert not (there > 2).any()
        there.to("cpu")
        with pytest.raises(AssertionError, match="cpu and meta"):
            torch.mul(there, here)
        with pytest.raises(AssertionError, match="cpu and meta"):
            torch.nn.functional.conv1d(there.view(1, 1, 3), here.view(1, 1, 3))
    assert len(watch.waits) == 1 and "assert not" in watch.waits[0]
    assert len(watch.moves) == 1 and "there.to" in watch.moves[0]


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_layer_stays_on_its_device(case):
    phase = caffe.TRAIN if "# phase: TRAIN" in case.read_text().split("\n", 1)[0] else caffe.TEST
    built = caffe.Net(case, phase, dialect=case.parent.name).to(DEVICE)
    with Watch() as watch:
        last = len(built.layers) - 1
        built._forward(0, last)
        built._backward(last, 0)
    assert all(blob.data_tensor().device.type == DEVICE for blob in built.blobs.values())
    if case.stem not in FROM_COLOURS:
        assert watch.moves == []
