"""Image files as the OpenCV of Caffe's time decodes them: 8 bits, BGR or grey, no alpha, EXIF rotation ignored.

How a colour image becomes grey depends on its format, because each decoder does it in its own way: PNG in libpng's
15-bit arithmetic, JPEG by the luminance that is stored, the others in OpenCV's 14-bit arithmetic.

A ``.npy`` file, which Caffe cannot read, is taken as it stands: ``(H, W)`` or ``(H, W, C)`` with any number of
channels, for images that no image format holds (infra-red, depth, many bands).
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from prototxt.errors import FormatError, MissingFileError

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)


def read_image(path: str | os.PathLike[str], color: bool = True) -> np.ndarray:
    """An image as ``cv2.imread`` gives it.

    Args:
        path: of the file.
        color: True for BGR, also of a grey image; False for grey, also of a colour image.

    Returns:
        uint8 ``(H, W, 3)`` in BGR, or ``(H, W)`` in grey. A ``.npy`` file gives its own channels, whatever ``color``
        says, in uint8 or float32.

    Raises:
        MissingFileError: there is no such file.
        FormatError: it is not an image, or is damaged.
    """
    data = _contents(path)
    return _decode_array(data, path) if _is_array(path) else decode_image(data, color, path)


def read_label(path: str | os.PathLike[str]) -> tuple[np.ndarray, str]:
    """A label image ``(H, W)`` as Caffe reads it, which is as grey, and what makes its values doubtful.

    The second value is empty for an 8-bit grey image, where a pixel's value is its class. Otherwise it says in words
    what the file holds instead. A ``.npy`` file may hold any numbers.

    Raises:
        MissingFileError: there is no such file.
        FormatError: it is not an image, or is damaged.
    """
    data = _contents(path)
    if not _is_array(path):
        return decode_image(data, False, path), _doubt(_open(data, path))
    label = _decode_array(data, path)
    if label.ndim == 3:
        if label.shape[2] != 1:
            raise FormatError(f"{path}: holds an array of shape {label.shape}; expected labels of shape (H, W)")
        label = label[:, :, 0]
    return label, ""


def decode_image(data: bytes, color: bool | None = True, name: str | os.PathLike[str] = "encoded image") -> np.ndarray:
    """An image file in memory as ``cv2.imdecode`` gives it.

    Args:
        data: the file.
        color: as in ``read_image``; None keeps what is stored: grey ``(H, W)``, BGR, or BGRA ``(H, W, 4)``.
        name: for messages.

    Raises:
        FormatError: it is not an image, or is damaged.
    """
    image = _open(data, name)
    try:
        if color is None:
            grey, alpha = image.mode in _GREY_MODES, image.mode == "RGBA"
            return _grey(image) if grey else _bgra(image) if alpha else _bgr(image)
        return _bgr(image) if color else _grey(image)
    except _UNREADABLE as error:
        raise FormatError(f"{name}: a damaged {image.format} image ({error}); replace the file") from error


def _contents(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"{os.fspath(path)!r} does not exist; expected an image") from None


def _open(data: bytes, name: str | os.PathLike[str]) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise FormatError(f"{name}: {error}; cut it up, or raise PIL.Image.MAX_IMAGE_PIXELS") from error
    except _UNREADABLE as error:
        raise FormatError(f"{name}: not an image that can be read: {_beginning(data)}") from error
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise FormatError(f"{name}: a {image.format} image with 32 bits a pixel; expected 8 or 16. Save it as .npy")
    return image


def _beginning(data: bytes) -> str:
    """What a file that is no image seems to be."""
    if not data:
        return "the file is empty"
    if data.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the image itself with `git lfs pull`"
    return f"it starts with {data[:24]!r}; expected PNG, JPEG, TIFF, BMP or PPM, or a .npy file for any array"


_GREY_MODES = {"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N"}


def _grey(image: Image.Image) -> np.ndarray:
    """``(H, W)`` uint8."""
    if image.mode in _GREY_MODES:
        return _eight_bit_grey(image)
    if image.format in ("JPEG", "MPO"):
        image.draft("L", None)  # the decoder gives the stored luminance, without a way through RGB
        if image.mode == "L":
            return np.array(image)
    red, green, blue = np.moveaxis(_rgb(image).astype(np.int32), 2, 0)
    if image.format == "PNG":
        return ((9797 * red + 19234 * green + 3737 * blue) >> 15).astype(np.uint8)
    return ((4899 * red + 9617 * green + 1868 * blue + 8192) >> 14).astype(np.uint8)


def _bgr(image: Image.Image) -> np.ndarray:
    """``(H, W, 3)`` uint8."""
    if image.mode in _GREY_MODES:
        return np.repeat(_eight_bit_grey(image)[:, :, None], 3, axis=2)
    return np.ascontiguousarray(_rgb(image)[:, :, ::-1])


def _bgra(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image)[:, :, [2, 1, 0, 3]])


def _eight_bit_grey(image: Image.Image) -> np.ndarray:
    """1 bit as 0 and 255, 16 bits without the lower eight (libpng: strip_16), alpha dropped."""
    if image.mode.startswith("I"):
        return (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
    return np.array(image.convert("L"))


def _rgb(image: Image.Image) -> np.ndarray:
    """``(H, W, 3)`` uint8 in RGB: palettes looked up, alpha dropped."""
    if image.mode != "CMYK":
        return np.asarray(image.convert("RGB"))
    # OpenCV takes the inks as printed amounts from 255 downwards; Pillow has turned them round.
    inks = 255 - np.asarray(image).astype(np.int32)
    black = inks[:, :, 3:]
    return (black - ((255 - inks[:, :, :3]) * black >> 8)).astype(np.uint8)


def _doubt(label: Image.Image) -> str:
    """Why the pixels of a label image are not the class numbers that its author wrote, or an empty string."""
    if label.format in ("JPEG", "MPO"):
        return "a JPEG file, whose compression changes the class numbers"
    if label.mode in ("P", "PA"):
        return "a palette image, of which the luminance of the colours is read and not the palette's numbers"
    if label.mode == "1":
        return "a 1-bit image, which is read as 0 and 255"
    if label.mode.startswith("I"):
        return "a 16-bit image, of which only the upper 8 bits are read"
    if label.mode not in _GREY_MODES:
        return "a colour image, of which the luminance is read"
    raw_mode = label.tile[0][3] if label.tile else None
    if raw_mode in ("L;2", "L;4"):
        return f"a {raw_mode[2:]}-bit grey image, whose values are spread over 0 to 255"
    return ""


def _is_array(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(".npy")


def _decode_array(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise FormatError(f"{path}: not a .npy file: {error}; {_beginning(data)}") from error
    if array.ndim not in (2, 3) or array.dtype.kind not in "buif" or 0 in array.shape:
        raise FormatError(
            f"{path}: holds an array of shape {array.shape} and type {array.dtype}; "
            "expected numbers of shape (H, W) or (H, W, C)"
        )
    return array.astype(np.uint8 if array.dtype.kind == "b" else np.float32) if array.dtype != np.uint8 else array
