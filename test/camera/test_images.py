"""Camera images of any common encoding, padding, byte order and size become 8-bit RGB."""

from __future__ import annotations

import array
import io
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

pytest.importorskip("rclpy", reason="the nodes need ROS 2")

from sensor_msgs.msg import CompressedImage, Image

from semhier_ros.camera.images import ENCODINGS, ImageError, compressed_to_rgb, image_to_rgb, is_dim

SIZES = [(6, 8), (5, 8), (7, 9), (3, 3)]


def smooth(height: int, width: int) -> np.ndarray:
    """A picture without sharp edges, so that chroma subsampling and demosaicing lose little."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [60 + 8 * x + 2 * y, 90 + 3 * x + 5 * y, 160 - 4 * x + 3 * y]
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


def message(pixels: np.ndarray, encoding: str, *, padding: int = 0, big: bool = False) -> Any:
    """A message of an array (height, width[, channels]) of uint8 or uint16, rows padded with 0xAA."""
    if pixels.dtype == np.uint16:
        pixels = pixels.astype(">u2" if big else "<u2")
    height, width = pixels.shape[:2]
    rows = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAA)
    result = Image(height=height, width=width, encoding=encoding, step=rows.shape[1], is_bigendian=int(big))
    result.data = array.array("B", rows.tobytes())
    return result


def yuv(rgb: np.ndarray, order: str) -> np.ndarray:
    """4:2:2 by the book (BT.601, limited range), chroma of each pair from its first pixel."""
    r, g, b = (rgb[..., index].astype(float) for index in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    first = np.arange(rgb.shape[1]) // 2 * 2
    chroma = np.where(np.arange(rgb.shape[1]) % 2 == 0, u[:, first], v[:, first])
    pair = (chroma, y) if order == "uyvy" else (y, chroma)
    return np.stack(pair, axis=-1).round().clip(0, 255).astype(np.uint8)


def bayer(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """The mosaic whose first two rows have the colours `pattern` (rggb: r g / g b)."""
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for position, colour in enumerate(pattern):
        row, column = divmod(position, 2)
        mosaic[row::2, column::2] = rgb[row::2, column::2, "rgb".index(colour)]
    return mosaic


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", [0, 5])
def test_colour_encodings_are_exact(size: tuple[int, int], padding: int) -> None:
    rgb = smooth(*size)
    alpha = np.full((*size, 1), 7, np.uint8)
    for encoding, pixels in {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "8UC3": rgb[..., ::-1],
        "rgba8": np.concatenate([rgb, alpha], axis=2),
        "bgra8": np.concatenate([rgb[..., ::-1], alpha], axis=2),
        "8UC4": np.concatenate([rgb[..., ::-1], alpha], axis=2),
    }.items():
        result = image_to_rgb(message(pixels, encoding, padding=padding))
        np.testing.assert_array_equal(result, rgb, err_msg=encoding)
        assert result.dtype == np.uint8


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_sixteen_bits_keep_their_high_byte(size: tuple[int, int], big: bool) -> None:
    rgb = smooth(*size)
    wide = rgb.astype(np.uint16) * 256 + 77
    alpha = np.full((*size, 1), 7, np.uint16)
    for encoding, pixels in {
        "rgb16": wide,
        "bgr16": wide[..., ::-1],
        "16UC3": wide[..., ::-1],
        "rgba16": np.concatenate([wide, alpha], axis=2),
        "bgra16": np.concatenate([wide[..., ::-1], alpha], axis=2),
    }.items():
        np.testing.assert_array_equal(image_to_rgb(message(pixels, encoding, big=big, padding=6)), rgb, encoding)
    for encoding in ("mono16", "16UC1"):
        grey = image_to_rgb(message(wide[..., 0], encoding, big=big))
        np.testing.assert_array_equal(grey, np.repeat(rgb[..., :1], 3, axis=2), encoding)


@pytest.mark.parametrize("size", SIZES)
def test_grey_is_repeated(size: tuple[int, int]) -> None:
    grey = smooth(*size)[..., 1]
    for encoding in ("mono8", "8UC1"):
        np.testing.assert_array_equal(
            image_to_rgb(message(grey, encoding, padding=3)), np.repeat(grey[..., None], 3, 2)
        )


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (7, 9), (40, 31)])
@pytest.mark.parametrize(
    ("encoding", "order"), [("uyvy", "uyvy"), ("yuv422", "uyvy"), ("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv")]
)
def test_yuv422_comes_close(size: tuple[int, int], encoding: str, order: str) -> None:
    rgb = smooth(*size)
    inside = (rgb < 255).all(axis=2) & (rgb > 0).all(axis=2)
    result = image_to_rgb(message(yuv(rgb, order), encoding, padding=2))
    assert result.shape == rgb.shape
    assert np.abs(result.astype(int) - rgb)[inside].max() <= 16


@pytest.mark.parametrize("size", [(6, 8), (5, 9), (40, 31)])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_are_told_apart(size: tuple[int, int], pattern: str) -> None:
    flat = np.broadcast_to(np.array([200, 120, 40], np.uint8), (*size, 3))
    mosaic = bayer(flat, pattern)
    np.testing.assert_array_equal(image_to_rgb(message(mosaic, f"bayer_{pattern}8", padding=1)), flat)
    wide = mosaic.astype(np.uint16) * 256 + 9
    np.testing.assert_array_equal(image_to_rgb(message(wide, f"bayer_{pattern}16")), flat)


def test_the_same_as_cv_bridge_where_it_knows_the_encoding() -> None:
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed")
    bridge = cv_bridge.CvBridge()
    random = np.random.default_rng(3)
    compared = 0
    for encoding in ENCODINGS:
        channels = {"rgb": 3, "bgr": 3}.get(encoding[:3], 1)
        channels = 4 if encoding[:4] in ("rgba", "bgra") else channels
        if not encoding.endswith("8") or encoding == "bayer_grbg8":
            continue  # PyPI's cv_bridge lacks the others
        image = message(random.integers(0, 256, (11, 8, channels), np.uint8), encoding)
        expected = bridge.imgmsg_to_cv2(image, "rgb8")
        np.testing.assert_array_equal(image_to_rgb(image), expected, err_msg=encoding)
        compared += 1
    assert compared >= 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoding": "jpeg2000"}, "encoding: 'jpeg2000', expected one of rgb8"),
        ({"height": 0}, "height: 0, expected 1 to"),
        ({"width": 2**31}, f"width: {2**31}, expected 1 to"),
        ({"step": 10}, "step: 10, expected at least 24"),
        ({"height": 60}, "data: 144 bytes, expected 1440"),
        ({"data": array.array("B")}, "data: 0 bytes"),
    ],
)
def test_wrong_messages_are_named(change: dict[str, Any], says: str) -> None:
    image = message(smooth(6, 8), "rgb8")
    for name, value in change.items():
        setattr(image, name, value)
    with pytest.raises(ImageError, match=says):
        image_to_rgb(image)


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp"])
def test_compressed_images(extension: str) -> None:
    rgb = smooth(23, 31)
    good, data = cv2.imencode(extension, rgb[..., ::-1])
    assert good
    result = compressed_to_rgb(CompressedImage(format=extension[1:], data=array.array("B", data.tobytes())))
    assert np.abs(result.astype(int) - rgb).max() <= (12 if extension == ".jpg" else 0)


def packed(name: str, data: bytes) -> CompressedImage:
    return CompressedImage(format=name, data=array.array("B", data))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_compressed_image_that_is_cut_off_is_named(extension: str) -> None:
    data = cv2.imencode(extension, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    assert compressed_to_rgb(packed("jpeg", data + bytes(300))).shape == (64, 64, 3)  # padded, as some cameras do
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ImageError, match="data: "):
            compressed_to_rgb(packed("jpeg", data[: int(len(data) * share)]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_message_shows_the_sensors_pixels_whatever_its_exif_says(orientation: int) -> None:
    """A CameraInfo speaks of those; the lens would be of another picture."""
    exif, file = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    PIL.Image.fromarray(smooth(40, 24)).save(file, "jpeg", exif=exif, quality=100, subsampling=0)
    assert np.abs(compressed_to_rgb(packed("jpeg", file.getvalue())).astype(int) - smooth(40, 24)).max() <= 8


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_the_format_says_where_red_and_blue_are_exchanged(kind: str) -> None:
    """As compressed_image_transport's subscriber has it."""
    rgb = smooth(40, 24)
    for name, file in ((f"rgb8; {kind} compressed bgr8", rgb[..., ::-1]), (f"rgb8; {kind} compressed rgb8", rgb)):
        data = cv2.imencode(f".{kind}", file, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
        assert np.abs(compressed_to_rgb(packed(name, data)).astype(int) - rgb).max() <= (0 if kind == "png" else 12)


def test_16_bits_in_a_file_keep_their_high_byte_and_12_are_noticed() -> None:
    grey = smooth(40, 24)[..., 0].astype(np.uint16)
    for factor, dim in ((256, False), (16, True)):
        data = cv2.imencode(".png", grey * factor)[1].tobytes()
        image = packed("mono16; png compressed mono16", data)
        assert is_dim(image) is dim
        assert np.array_equal(compressed_to_rgb(image)[..., 1], (grey * factor) >> 8)
    with pytest.raises(ImageError, match="values of float32"):
        compressed_to_rgb(packed("tiff", cv2.imencode(".tiff", grey.astype(np.float32))[1].tobytes()))


@pytest.mark.parametrize("data", [b"", b"no image", bytes(1000)])
def test_broken_compressed_images_are_named(data: bytes) -> None:
    with pytest.raises(ImageError, match="data: "):
        compressed_to_rgb(CompressedImage(format="jpeg", data=array.array("B", data)))


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
@pytest.mark.parametrize("padding", [0, 6])
def test_planar_chroma_comes_close(encoding: str, padding: int) -> None:
    rgb = smooth(40, 32)
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
    luma, u, v = planes[:40], planes[40:50].reshape(20, 16), planes[50:].reshape(20, 16)
    pairs = np.stack([u, v] if encoding == "nv12" else [v, u], axis=-1).reshape(20, 32)
    picture = message(np.concatenate([luma, pairs]), encoding, padding=padding)
    picture.height, picture.width = 40, 32
    inside = (rgb < 255).all(axis=2) & (rgb > 0).all(axis=2)
    assert np.abs(image_to_rgb(picture).astype(int) - rgb)[inside].max() <= 16
    picture.height = 39
    with pytest.raises(ImageError, match=f"expected even sides for {encoding}"):
        image_to_rgb(picture)


def test_sixteen_bits_of_which_twelve_are_used_are_noticed() -> None:
    wide = smooth(6, 8).astype(np.uint16)[..., 0]
    assert is_dim(message(wide * 15, "mono16"))
    assert is_dim(message(wide * 15, "mono16", big=True))
    assert not is_dim(message(wide * 256, "mono16"))
    assert not is_dim(message(np.zeros((6, 8), np.uint16), "mono16"))
    assert not is_dim(message(smooth(6, 8), "rgb8"))
