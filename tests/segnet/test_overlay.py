import numpy as np
import pytest
from PIL import Image

from segnet import camvid
from segnet.overlay import main

LABELS = np.array([[3, 11], [8, 3]], np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save("image.png")
    Image.fromarray(LABELS).save("labels.png")


def test_camvid_has_a_colour_for_each_class_and_void():
    assert len(camvid.PALETTE) == len(camvid.CLASSES) + 1
    assert camvid.PALETTE[camvid.CLASSES.index("Car")] == (64, 0, 128)


def test_colours_over_the_image(folder):
    assert main(["image.png", "labels.png", "out.png"]) == 0
    drawn = np.asarray(Image.open("out.png"))
    assert drawn[0, 0].tolist() == [76, 38, 76]  # 0.6 of Road's
    assert drawn.shape[1] > 2


def test_bare_colours_and_back(folder):
    assert main(["--bare", "image.png", "labels.png", "bare.png"]) == 0
    assert np.array_equal(np.asarray(Image.open("bare.png")), LABELS)
    assert main(["image.png", "labels.png", "one.png"]) == main(["image.png", "bare.png", "two.png"]) == 0
    assert np.array_equal(*(np.asarray(Image.open(name)) for name in ("one.png", "two.png")))


def test_other_classes_have_other_colours(folder):
    assert main(["--bare", "image.png", "labels.png", "bare.png", "--names", "a,b,c,d,e"]) == 0
    assert np.asarray(Image.open("bare.png").convert("RGB"))[0, 0].tolist() != list(camvid.PALETTE[3])


def test_errors_are_one_line(folder, capsys):
    assert main(["nothing.png", "labels.png", "out.png"]) == 1
    assert main(["image.png", "labels.png", "out.txt"]) == 1
    assert [line[:7] for line in capsys.readouterr().err.splitlines()] == ["error: "] * 2
