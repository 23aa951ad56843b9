"""The operations of `process_image`: their parameters, checked before any pixel is read, and what each does.

An operation is written as its name, `"resize"`, for the defaults, or as `{"name": "resize", "width": 640}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pyvips
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from .errors import ImageTooLarge, InvalidOperation

MAX_OPERATIONS = 20
Pixels = Annotated[int, Field(ge=1, le=20_000)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class _Operation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def pixels_needed(self, image: pyvips.Image) -> int:
        """Return the pixels of the largest image that the operation makes on its way, as far as its parameters tell."""
        return int(image.width * image.height)


class Resize(_Operation):
    """Fit into a box of pixels, keeping the proportions. An image that is smaller stays, unless `enlarge`."""

    name: Literal["resize"]
    width: Pixels = 800
    height: Pixels = 800
    enlarge: bool = False

    def apply(self, image: pyvips.Image) -> pyvips.Image:
        scale = min(self.width / image.width, self.height / image.height)
        if scale >= 1 and not self.enlarge:
            return image
        return image.resize(scale)


class Thumbnail(_Operation):
    """Cut to exactly `width` x `height`, around the part that draws the eye (`attention`) or the middle."""

    name: Literal["thumbnail"]
    width: Pixels = 256
    height: Pixels = 256
    focus: Literal["attention", "entropy", "centre"] = "attention"

    def pixels_needed(self, image: pyvips.Image) -> int:
        # libvips first scales until the box is covered, and looks for the point of attention at once, not lazily.
        scale = max(self.width / image.width, self.height / image.height)
        return int(image.width * scale) * int(image.height * scale)

    def apply(self, image: pyvips.Image) -> pyvips.Image:
        return image.thumbnail_image(self.width, height=self.height, crop=self.focus, size="both")


class Crop(_Operation):
    """Cut out a rectangle; without one, the largest square in the middle."""

    name: Literal["crop"]
    left: Annotated[int, Field(ge=0)] | None = None
    top: Annotated[int, Field(ge=0)] | None = None
    width: Pixels | None = None
    height: Pixels | None = None

    def apply(self, image: pyvips.Image) -> pyvips.Image:
        side = min(image.width, image.height)
        width, height = self.width or side, self.height or side
        left = (image.width - width) // 2 if self.left is None else self.left
        top = (image.height - height) // 2 if self.top is None else self.top
        if left < 0 or top < 0 or left + width > image.width or top + height > image.height:
            raise InvalidOperation(
                f"crop {width}x{height} at ({left}, {top}) leaves the image of {image.width}x{image.height} pixels"
            )
        return image.crop(left, top, width, height)


class Rotate(_Operation):
    """Turn clockwise. Corners that no pixel covers get `background`, or stay clear where the format can."""

    name: Literal["rotate"]
    angle: Annotated[float, Field(ge=-360, le=360)] = 90.0
    background: Colour | None = None

    def apply(self, image: pyvips.Image) -> pyvips.Image:
        quarter_turns, remainder = divmod(self.angle % 360, 90)
        if remainder == 0:
            return image.rot(("d0", "d90", "d180", "d270")[int(quarter_turns)])
        turned = _with_alpha(image).rotate(self.angle)
        return turned.flatten(background=_rgb(self.background)) if self.background else turned


class Watermark(_Operation):
    """Write text into a corner, white on a soft shadow, as wide as a share of the image."""

    name: Literal["watermark"]
    text: Annotated[str, Field(min_length=1, max_length=100)] = "arqestra"
    position: Literal["bottom-right", "bottom-left", "top-right", "top-left", "centre"] = "bottom-right"
    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    opacity: Annotated[float, Field(gt=0, le=1)] = 0.85
    colour: Colour = "#ffffff"

    def apply(self, image: pyvips.Image) -> pyvips.Image:
        margin = max(2, min(image.width, image.height) // 40)
        mask = self._text_mask(max(8, int((image.width - 2 * margin) * self.share)), max(8, image.height - 2 * margin))
        left, top = self._corner(image, mask, margin)
        blur = max(1.0, mask.height / 12)
        pad = int(4 * blur)
        wide_mask = mask.embed(pad, pad, mask.width + 2 * pad, mask.height + 2 * pad)
        # A shadow darker than a plain blur, so that white text stays readable on a white shirt.
        shadow = _painted((wide_mask.gaussblur(blur) * 2.2 * self.opacity).cast("uchar"), [0, 0, 0])
        text = _painted((mask * self.opacity).cast("uchar"), _rgb(self.colour))
        written = _with_alpha(image).composite(
            [shadow, text], ["over", "over"], x=[left - pad, left], y=[top - pad, top], compositing_space="srgb"
        )
        return written if image.hasalpha() else written.extract_band(0, n=3)

    def _text_mask(self, width: int, height: int) -> pyvips.Image:
        # libvips reads the text as Pango markup: what a user typed must not become a tag.
        escaped = self.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        drawn = pyvips.Image.text(f"<b>{escaped}</b>", font="sans", width=width, height=height, wrap="none", dpi=600)
        scale = min(width / drawn.width, height / drawn.height)
        return drawn.resize(scale)

    def _corner(self, image: pyvips.Image, mask: pyvips.Image, margin: int) -> tuple[int, int]:
        if self.position == "centre":
            return (image.width - mask.width) // 2, (image.height - mask.height) // 2
        vertical, _, horizontal = self.position.partition("-")
        left = margin if horizontal == "left" else image.width - mask.width - margin
        top = margin if vertical == "top" else image.height - mask.height - margin
        return left, top


class Convert(_Operation):
    """Choose the format and quality of the result; it may stand anywhere in the list, and the last one counts."""

    name: Literal["convert"]
    format: Literal["jpeg", "png", "webp"] = "webp"
    quality: Annotated[int, Field(ge=1, le=100)] = 85

    def apply(self, image: pyvips.Image) -> pyvips.Image:
        return image


Operation = Resize | Thumbnail | Crop | Rotate | Watermark | Convert
OPERATIONS: dict[str, type[_Operation]] = {
    "resize": Resize,
    "thumbnail": Thumbnail,
    "crop": Crop,
    "rotate": Rotate,
    "watermark": Watermark,
    "convert": Convert,
}
_OPERATION = TypeAdapter(Annotated[Operation, Field(discriminator="name")])


def parse_operations(operations: Sequence[str | dict[str, Any]]) -> tuple[Operation, ...]:
    """Check a job's operations and fill in their defaults.

    Raises:
        InvalidOperation: an unknown name or parameter, a value out of range, or more than 20 operations.
    """
    if isinstance(operations, str) or not 1 <= len(operations) <= MAX_OPERATIONS:
        raise InvalidOperation(f"expected a list of 1 to {MAX_OPERATIONS} operations, such as ['resize', 'watermark']")
    return tuple(_parse_operation(operation) for operation in operations)


def _parse_operation(operation: str | dict[str, Any]) -> Operation:
    fields = {"name": operation} if isinstance(operation, str) else operation
    name = fields.get("name") if isinstance(fields, dict) else None
    if not isinstance(name, str) or name not in OPERATIONS:
        raise InvalidOperation(f"unknown operation {operation!r}; expected one of {', '.join(OPERATIONS)}")
    try:
        return _OPERATION.validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        parameters = ", ".join(sorted(set(OPERATIONS[name].model_fields) - {"name"}))
        raise InvalidOperation(f"{name}: {where}: {first['msg']}; its parameters are {parameters}") from error


def apply_operations(image: pyvips.Image, operations: Sequence[Operation], max_pixels: int) -> pyvips.Image:
    """Return the image after all operations. libvips computes no pixel yet: it does when the result is written.

    Raises:
        ImageTooLarge: an operation would make more than `max_pixels`.
        InvalidOperation: a crop outside the image.
    """
    for operation in operations:
        _check_pixels(operation, operation.pixels_needed(image), max_pixels)
        image = operation.apply(image)
        _check_pixels(operation, image.width * image.height, max_pixels)
    return image


def _check_pixels(operation: Operation, pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise ImageTooLarge(f"{operation.name} would make {pixels:,} pixels; at most {max_pixels:,} are allowed")


def _with_alpha(image: pyvips.Image) -> pyvips.Image:
    return image if image.hasalpha() else image.addalpha()


def _painted(mask: pyvips.Image, rgb: list[int]) -> pyvips.Image:
    """Return an image of one colour whose transparency is the mask."""
    colour = mask.new_from_image(rgb).cast("uchar").copy(interpretation="srgb")
    return colour.bandjoin(mask)


def _rgb(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
