"""What every source of batches promises: the same batches from the same seed, however they are read."""

import pickle

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from caffe_compat.data.dense_image import DenseImageSource
from caffe_compat.data.image_list import ImageSource
from caffe_compat.data.seg_image import (
    ImageSegSource,
    WindowClsSource,
    WindowInstSegSource,
    WindowSegBinarySource,
    WindowSegSource,
)
from caffe_compat.data.window_list import WindowSource
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import (
    TEST,
    TRAIN,
    DenseImageDataParameter,
    ImageDataParameter,
    TransformationParameter,
    WindowDataParameter,
)

COUNT = 7
PIXEL = {"label_type": ImageDataParameter.PIXEL, "shuffle": True, "rand_skip": 5}
CROP = {"crop_size": 6, "mirror": True}
#: class → (message, its fields, transform_param, a line of its list)
SOURCES = {
    DenseImageSource: (
        DenseImageDataParameter,
        {"shuffle": True, "rand_skip": 5, "mirror": True, "crop_height": 6, "crop_width": 5},
        {"mean_value": [3]},
        "{i}.png {i}l.png",
    ),
    ImageSource: (ImageDataParameter, {"shuffle": True, "rand_skip": 5}, CROP, "{i}.png {i}"),
    ImageSegSource: (ImageDataParameter, PIXEL, {"scale_factors": [0.7, 1, 1.4]} | CROP, "{i}.png {i}.png"),
    WindowSegSource: (ImageDataParameter, PIXEL, CROP, "{i}.png {i}.png -1 {i} 9 9"),
    WindowInstSegSource: (ImageDataParameter, PIXEL, CROP, "{i}.png {i}.png {i}.png -1 {i} 9 9 1"),
    WindowSegBinarySource: (ImageDataParameter, PIXEL, CROP, "{i}.png {i}.png -1 {i} 9 9"),
    WindowClsSource: (ImageDataParameter, PIXEL, CROP, "{i}.png {i}.png -1 {i} 9 9"),
    WindowSource: (
        WindowDataParameter,
        {"context_pad": 1, "fg_fraction": 0.4},
        CROP,
        "# {i} {i}.png 3 9 11 2 1 0.9 1 2 7 8 0 0.1 {i} 1 9 8",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 20, (9, 11), dtype=np.uint8)
        for name in (f"{number}.png", f"{number}l.png"):
            Image.fromarray(pixels).save(folder / name)
    for cls, (*_, line) in SOURCES.items():
        (folder / f"{cls.__name__}.txt").write_text("".join(line.format(i=i) + "\n" for i in range(COUNT)))
    return folder


@pytest.fixture(params=SOURCES, ids=lambda cls: cls.__name__)
def make(request, folder):
    cls = request.param
    message, fields, transform, _ = SOURCES[cls]

    def make(seed=3, phase=TRAIN, workers=1):
        param = message(source=f"{cls.__name__}.txt", batch_size=3, **fields)
        options = {"label_dim": 20} if cls is WindowClsSource else {}
        return cls(
            param,
            TransformationParameter(**transform),
            phase,
            "deeplab",
            Paths(folder / "x"),
            seed,
            workers=workers,
            **options,
        )

    return make


def batches(source, count=8):
    return [(*source.next_batch(), source.last_files) for _ in range(count)]


def same(some, others):
    return all(
        all(np.array_equal(a, b) for a, b in zip(one[:-1], other[:-1], strict=True)) and one[-1] == other[-1]
        for one, other in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_batches_follow_from_the_seed_with_any_number_of_workers(make, phase):
    want = batches(make(phase=phase, workers=0))
    assert same(want, batches(make(phase=phase, workers=1)))
    assert same(want, batches(make(phase=phase, workers=3)))
    assert not same(want, batches(make(seed=4, phase=phase)))
    assert not same(want, want[1:] + want[:1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_source_goes_on_identically(make, workers):
    source = make(workers=workers)
    batches(source, 5)
    state, copy = source.state_dict(), pickle.loads(pickle.dumps(source))
    want = batches(source)
    other = make(seed=8, workers=workers)
    batches(other, 2)
    other.load_state_dict(state)
    assert same(want, batches(other))
    assert same(want, batches(copy))


def test_shapes_are_those_of_the_batches(make):
    source = make()
    assert source.top_shapes() == [blob.shape for blob in source.next_batch()]
    assert all(blob.dtype == np.float32 for blob in source.next_batch())


def test_loaded_by_torch(make):
    source = make()
    count = 0
    for data, label in DataLoader(source, batch_size=4, num_workers=0):
        assert data.shape[0] == label.shape[0] <= 4
        count += len(data)
    assert count == len(source)
