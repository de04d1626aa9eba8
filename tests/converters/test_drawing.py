import numpy as np
import pytest
from PIL import Image

from converters.drawing import distinct_colors, in_palette, overlay, save_picture
from prototxt.errors import CaffeError, MissingFileError

LABELS = np.array([[0, 0, 1], [0, 9, 1]], np.uint8)
COLORS = np.array([[10, 20, 30], [200, 100, 0]], np.uint8)


def test_overlay_mixes_colour_and_image():
    image = np.full((2, 3, 3), [100, 50, 0], np.uint8)  # BGR
    drawn = np.asarray(overlay(image, LABELS, COLORS))[:2, :3]
    assert drawn[0, 0].tolist() == [0.6 * 10 + 0, 0.6 * 20 + 0.4 * 50, 0.6 * 30 + 0.4 * 100]
    assert drawn[1, 2].tolist() == [120, 80, 40]
    assert drawn[1, 1].tolist() == [0, 20, 40]  # a label without colour is black


def test_legend_names_the_most_frequent_first():
    drawn = np.asarray(overlay(np.zeros((2, 3, 3), np.uint8), LABELS, COLORS, ["sky", "road"]))
    squares = [drawn[16 * line + 10, 3 + 10].tolist() for line in range(4)]
    assert squares == [[10, 20, 30], [200, 100, 0], [0, 0, 0], [255, 255, 255]]
    plain = np.asarray(overlay(np.zeros((2, 3, 3), np.uint8), LABELS, COLORS))
    assert not np.array_equal(plain, drawn), "the names are drawn"


def test_image_takes_the_size_of_the_labels():
    assert overlay(np.zeros((20, 30, 3), np.uint8), LABELS).size == overlay(np.zeros((2, 3, 3), np.uint8), LABELS).size


def test_palette_image_holds_the_labels(tmp_path):
    save_picture(in_palette(LABELS, COLORS), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert np.array_equal(np.asarray(picture), LABELS)
        assert np.asarray(picture.convert("RGB"))[0, 2].tolist() == [200, 100, 0]


def test_distinct_colors_are_distinct():
    assert len(np.unique(distinct_colors(40), axis=0)) == 40


def test_pictures_that_cannot_be_written(tmp_path):
    picture = in_palette(LABELS, COLORS)
    with pytest.raises(CaffeError, match=r"ends in '\.xyz'; expected the ending of an image format"):
        save_picture(picture, tmp_path / "x.xyz")
    with pytest.raises(MissingFileError, match="no folder"):
        save_picture(picture, tmp_path / "no" / "x.png")
    assert not list(tmp_path.iterdir())
