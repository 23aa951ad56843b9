"""Reads and writes whole image files: bytes in, bytes out, with every limit checked before pixels are decoded."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyvips

from .errors import ImageTooLarge, InvalidInput, ObjectMissing, UnsafePath
from .image_operations import Convert, Operation, apply_operations

# Loaders that libvips marks as unfit for untrusted files (SVG, PDF, ImageMagick and others) are turned off.
pyvips.block_untrusted_set(True)
# Every job reads another image, so remembered results would only hold memory.
pyvips.cache_set_max(0)

# libvips' name of each loader that is accepted, and the format of the result unless `convert` says otherwise.
_RESULT_FORMATS = {
    "jpegload_buffer": "jpeg",
    "pngload_buffer": "png",
    "webpload_buffer": "webp",
    "gifload_buffer": "png",
    "tiffload_buffer": "jpeg",
    "heifload_buffer": "jpeg",
}
_NOT_AN_IMAGE = "this is no image that the service reads; expected JPEG, PNG, WebP, GIF, TIFF or HEIC"
_CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}


@dataclass(frozen=True)
class ProcessedImage:
    """A finished image: its bytes and what is known of them."""

    data: bytes
    width: int
    height: int
    format: str

    @property
    def content_type(self) -> str:
        return _CONTENT_TYPES[self.format]

    @property
    def suffix(self) -> str:
        return _SUFFIXES[self.format]

    def description(self, key: str) -> dict[str, Any]:
        """Return what `process_image` returns."""
        return {
            "key": key,
            "width": self.width,
            "height": self.height,
            "size_bytes": len(self.data),
            "format": self.format,
            "sha256": hashlib.sha256(self.data).hexdigest(),
        }


class Rendering:
    """One image being made in a thread, which the event loop can stop.

    Parameters:
        data: the source file.
        operations: what to do, in order.
        max_pixels: a limit for the source and for every step.
    """

    def __init__(self, data: bytes, operations: tuple[Operation, ...], max_pixels: int) -> None:
        self._data = data
        self._operations = operations
        self._max_pixels = max_pixels
        self._result: pyvips.Image | None = None
        self._cancelled = False
        self._default_target: dict[str, str] = {}

    def run(self) -> ProcessedImage:
        """Decode, apply, encode; call it in a thread.

        Raises:
            InvalidInput: no image that the service reads, or a damaged one.
            ImageTooLarge: too many pixels, declared in the header or made by an operation.
        """
        try:
            image = self._load()
            image = apply_operations(image, self._operations, self._max_pixels)
            return self._save(image)
        except pyvips.Error as error:
            raise InvalidInput(f"libvips cannot process this image: {_one_line(error)}") from error

    def cancel(self) -> None:
        """Make libvips stop computing, from any thread."""
        self._cancelled = True
        if self._result is not None:
            self._result.set_kill(True)

    def _load(self) -> pyvips.Image:
        try:
            # Only the header is read here: a bomb is refused before it unfolds.
            image = pyvips.Image.new_from_buffer(self._data, "", fail_on="error")
        except pyvips.Error as error:
            raise InvalidInput(f"{_NOT_AN_IMAGE}: {_one_line(error)}") from error
        if image.get("vips-loader") not in _RESULT_FORMATS:
            raise InvalidInput(_NOT_AN_IMAGE)
        self._default_target = {"name": "convert", "format": _RESULT_FORMATS[image.get("vips-loader")]}
        if image.width * image.height > self._max_pixels:
            raise ImageTooLarge(
                f"the image has {image.width}x{image.height} pixels; at most {self._max_pixels:,} are allowed"
            )
        image = image.autorot().colourspace("srgb")
        return image.cast("uchar") if image.format != "uchar" else image

    def _save(self, image: pyvips.Image) -> ProcessedImage:
        conversions = [operation for operation in self._operations if isinstance(operation, Convert)]
        target = conversions[-1] if conversions else Convert.model_validate(self._default_target)
        if target.format == "jpeg" and image.hasalpha():
            image = image.flatten(background=[255, 255, 255])
        # `keep`: the colour profile stays; camera, place and time of a photograph do not leave the house.
        options: dict[str, Any] = {"keep": "icc"}
        if target.format != "png":
            options["Q"] = target.quality
        self._result = image
        if self._cancelled:
            image.set_kill(True)
        data = image.write_to_buffer(_SUFFIXES[target.format], **options)
        return ProcessedImage(data, image.width, image.height, target.format)


def path_below(root: Path, name: str) -> Path:
    """Return the path of `name` below `root`, following symbolic links, or refuse it.

    Raises:
        UnsafePath: absolute, or outside the root once every `..` and link is resolved.
    """
    if not name or not name.isprintable():
        raise UnsafePath(f"{name!r} is not a usable path")
    resolved_root = root.resolve()
    path = (resolved_root / name).resolve()
    if not path.is_relative_to(resolved_root) or path == resolved_root:
        raise UnsafePath(f"{name!r} lies outside the image folder; expected a path below it")
    return path


def read_image_file(path: Path, max_bytes: int) -> bytes:
    """Read a file of at most `max_bytes` bytes.

    Raises:
        ObjectMissing: no such file.
        ImageTooLarge: more bytes than that.
    """
    # A named pipe would keep the thread waiting for ever, so only a regular file is opened.
    if not path.is_file():
        raise ObjectMissing(f"there is no image file {path.name!r} below the image folder")
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageTooLarge(f"{path.name!r} is larger than the {max_bytes:,} bytes allowed")
    return data


def write_image_file(path: Path, data: bytes) -> None:
    """Write a file whole: a reader sees the old one or the new one, also when two runs of a job overlap."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _one_line(error: pyvips.Error) -> str:
    return " ".join(str(error).split())[:300]
