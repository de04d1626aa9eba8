import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from prototxt.caffe_pb2 import LossParameter
from prototxt.errors import FormatError, MissingFileError
from segnet.camvid import CLASS_WEIGHTS
from segnet.class_weights import class_weights, main
from tests.shared import SHARED, needs_shared


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two label images of 2×4: class 0 in both, 1 in one, 2 in one, 3 in none; 4 is void."""
    monkeypatch.chdir(tmp_path)
    write("a.png", [[0, 0, 0, 1], [1, 4, 4, 4]])
    write("b.png", [[0, 2, 2, 2], [2, 2, 2, 2]])
    (tmp_path / "list.txt").write_text("/data/i.png /data/a.png\n/data/j.png /data/b.png\n")
    return tmp_path


def write(name, labels):
    Image.fromarray(np.array(labels, np.uint8)).save(name)


def test_median_frequency(folder):
    found = class_weights("list.txt", 4)
    assert found.pixels.tolist() == [4, 2, 7, 0] and found.images.tolist() == [2, 1, 1, 0]
    # 4 of 16 pixels, 2 of 8, 7 of 8: the median is 1/4
    assert found.frequencies == pytest.approx([1 / 4, 1 / 4, 7 / 8, np.nan], nan_ok=True)
    assert found.weights == pytest.approx([1, 1, 2 / 7, 0])


def test_a_void_class_takes_no_part(folder):
    found = class_weights("list.txt", 4, {1, 4})
    assert found.weights == pytest.approx([(1 / 4 + 7 / 8) / 2 * 4, 0, (1 / 4 + 7 / 8) / 2 * 8 / 7, 0])


def test_lines_are_a_loss_param(folder, capsys):
    assert main(["list.txt", "--names", "a,b,c,d"]) == 0
    out = capsys.readouterr().out
    param = text_format.Parse(out, LossParameter())
    assert param.weight_by_label_freqs and param.ignore_label == 4
    assert list(param.class_weighting) == pytest.approx([1, 1, 2 / 7, 0], rel=1e-4)
    assert "# 2 c: 7 pixels in 1 images, 87.50% of theirs" in out


def test_every_label_outside_the_classes_is_told(folder):
    with pytest.raises(FormatError) as error:
        class_weights("list.txt", 1)
    first, second = error.value.problems
    assert first.startswith("a.png: labels outside the classes: 4 (3 times); expected 0 to 0, or void: 1")
    assert second.startswith("b.png: labels outside the classes: 2 (7 times)")


def test_labels_that_are_ignored(folder, capsys, caplog):
    assert main(["list.txt", "--classes", "1", "--ignore", "1", "--ignore", "2", "--ignore", "4"]) == 0
    assert "ignore_label: 1\n" in capsys.readouterr().out
    assert "one label only" in caplog.text


def test_missing_images_are_counted(folder, capsys):
    (folder / "b.png").unlink()
    with pytest.raises(MissingFileError, match="1 of the 2 files"):
        class_weights("list.txt", 4)
    assert main(["nothing.txt"]) == 1
    assert capsys.readouterr().err.startswith("error: 'nothing.txt' does not exist")


def test_doubtful_label_images_are_told(folder, caplog):
    image = Image.open("a.png").convert("P")
    image.putpalette([v for i in range(5) for v in (i, i, i)])
    image.save("a.png")
    class_weights("list.txt", 4)
    assert "a.png is a palette image" in caplog.text


def test_root_maps_the_list(folder, capsys):
    (folder / "there").mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).rename(folder / "there" / name)
    assert main(["list.txt", "--classes", "4", "--root", "/data=there"]) == 0
    assert "class_weighting: 0.28571" in capsys.readouterr().out


@needs_shared
def test_camvid(monkeypatch):
    monkeypatch.setenv("CAFFE_ROOT_MAP", f"/SegNet/CamVid={SHARED / 'camvid'}")
    found = class_weights(SHARED / "camvid" / "train.txt", 11)
    ratios = found.weights / CLASS_WEIGHTS
    sign = 6
    assert found.weights[sign] == pytest.approx(3.8467, abs=1e-4)  # where 9.6446 was published
    others = np.delete(ratios, sign)
    assert others.min() > 1.01 and others.max() < 1.21
