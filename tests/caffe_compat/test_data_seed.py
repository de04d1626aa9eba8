"""What a net's data layers draw follows from torch's seed."""

import numpy as np
from PIL import Image

import caffe_compat as caffe
from tests.caffe_compat.nets import net

LAYER = """
layer { name: "NAME" type: "DenseImageData" top: "NAME" top: "NAME label"
  dense_image_data_param { source: "train.txt" batch_size: 2 shuffle: true mirror: true } }
"""


def batches(tmp_path, seed):
    caffe.set_random_seed(seed)
    made = net(LAYER.replace("NAME", "a") + LAYER.replace("NAME", "b"), roots=[(".", str(tmp_path))])
    found = []
    for _ in range(5):
        found.append({name: blob.copy() for name, blob in made.forward().items()})
    return found


def same(some, others, name="a", other="a"):
    return all(np.array_equal(a[name], b[other]) for a, b in zip(some, others, strict=True))


def test_batches_follow_from_the_random_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 9, (6, 4, 5), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(f"{number}.png")
        Image.fromarray(image).save(f"{number}l.png")
    (tmp_path / "train.txt").write_text("".join(f"{n}.png {n}l.png\n" for n in range(6)))
    first = batches(tmp_path, 4)
    again = batches(tmp_path, 4)
    assert same(first, again) and same(first, again, "b", "b")
    assert not same(first, first, "a", "b")
    assert not same(first, batches(tmp_path, 5))
