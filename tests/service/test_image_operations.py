"""Each operation on a real photograph, and what is refused before any pixel is decoded."""

from pathlib import Path
from typing import Any

import matplotlib
import pytest
import pyvips

from jobs.errors import ImageTooLarge, InvalidInput, InvalidOperation
from jobs.image_files import ProcessedImage, Rendering
from jobs.image_operations import MAX_OPERATIONS, OPERATIONS, parse_operations

PHOTOGRAPH = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
WIDTH, HEIGHT = 512, 600
MAX_PIXELS = 1_000_000


def rendered(*operations: str | dict[str, Any], data: bytes | None = None) -> ProcessedImage:
    source = PHOTOGRAPH.read_bytes() if data is None else data
    return Rendering(source, parse_operations(operations), MAX_PIXELS).run()


def decoded(image: ProcessedImage) -> pyvips.Image:
    return pyvips.Image.new_from_buffer(image.data, "")


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_plain_name_works_with_its_defaults(name: str) -> None:
    image = rendered(name)
    assert (decoded(image).width, decoded(image).height) == (image.width, image.height)


@pytest.mark.parametrize(
    ("operation", "size"),
    [
        ({"name": "resize", "width": 256, "height": 256}, (218, 256)),
        ({"name": "resize"}, (WIDTH, HEIGHT)),
        ({"name": "resize", "width": 1024, "height": 1024, "enlarge": True}, (874, 1024)),
        ({"name": "thumbnail", "width": 100, "height": 50}, (100, 50)),
        ({"name": "crop", "left": 10, "top": 20, "width": 30, "height": 40}, (30, 40)),
        ({"name": "crop"}, (WIDTH, WIDTH)),
        ({"name": "rotate"}, (HEIGHT, WIDTH)),
        ({"name": "rotate", "angle": 180}, (WIDTH, HEIGHT)),
        ({"name": "rotate", "angle": -90}, (HEIGHT, WIDTH)),
        ({"name": "watermark"}, (WIDTH, HEIGHT)),
    ],
)
def test_size_after_an_operation(operation: dict[str, Any], size: tuple[int, int]) -> None:
    image = rendered(operation)
    assert (image.width, image.height) == size


@pytest.mark.parametrize(("format_name", "loader"), [("jpeg", "jpegload"), ("png", "pngload"), ("webp", "webpload")])
def test_convert_writes_that_format(format_name: str, loader: str) -> None:
    image = rendered({"name": "convert", "format": format_name})
    assert image.format == format_name
    assert decoded(image).get("vips-loader").startswith(loader)


def test_quality_changes_the_size() -> None:
    low, high = (rendered({"name": "convert", "format": "jpeg", "quality": quality}) for quality in (20, 95))
    assert len(low.data) * 3 < len(high.data)


@pytest.mark.parametrize("position", ["bottom-right", "bottom-left", "top-right", "top-left", "centre"])
def test_watermark_changes_its_corner_and_no_other(position: str) -> None:
    plain = decoded(rendered({"name": "convert", "format": "png"}))
    marked = decoded(
        rendered({"name": "watermark", "position": position, "share": 0.2}, {"name": "convert", "format": "png"})
    )
    left, top, width, height = (plain - marked).abs().find_trim(threshold=30, background=[0])
    middle = (left + width / 2, top + height / 2)
    horizontal = "left" if middle[0] < WIDTH / 3 else "right" if middle[0] > WIDTH * 2 / 3 else "centre"
    vertical = "top" if middle[1] < HEIGHT / 3 else "bottom" if middle[1] > HEIGHT * 2 / 3 else "centre"
    assert position in (f"{vertical}-{horizontal}", horizontal)
    assert width < WIDTH / 3


def test_watermark_text_is_no_markup() -> None:
    def width_of(text: str) -> float:
        image = rendered({"name": "watermark", "text": text}, {"name": "convert", "format": "png"})
        return (decoded(image) - decoded(rendered({"name": "convert", "format": "png"}))).abs().avg()

    assert width_of("<i>x</i> & y") != width_of("x & y")


def test_metadata_does_not_leave_the_house() -> None:
    image = pyvips.Image.new_from_file(str(PHOTOGRAPH)).copy()
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Artist", "someone (someone, ASCII, 8 components, 8 bytes)")
    source = image.write_to_buffer(".jpg")
    assert "exif-data" in pyvips.Image.new_from_buffer(source, "").get_fields()
    assert "exif-data" not in decoded(rendered("resize", data=source)).get_fields()


def test_the_same_work_gives_the_same_bytes() -> None:
    assert rendered("resize", "watermark").data == rendered("resize", "watermark").data


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        (["blur"], "unknown operation 'blur'; expected one of resize"),
        ([{"width": 3}], "unknown operation"),
        ([{"name": ["resize"]}], "unknown operation"),
        ([7], "unknown operation"),
        ([{"name": "resize", "widht": 3}], "its parameters are enlarge, height, width"),
        ([{"name": "resize", "width": 0}], "resize: width"),
        ([{"name": "resize", "width": 20_001}], "resize: width"),
        ([{"name": "watermark", "text": ""}], "watermark: text"),
        ([{"name": "watermark", "colour": "red"}], "watermark: colour"),
        ([{"name": "convert", "format": "svg"}], "convert: format"),
        ([], "expected a list of 1 to 20"),
        ("resize", "expected a list of 1 to 20"),
        (["resize"] * (MAX_OPERATIONS + 1), "expected a list of 1 to 20"),
    ],
)
def test_wrong_operations_are_refused_with_what_was_expected(operations: Any, message: str) -> None:
    with pytest.raises(InvalidOperation, match=message):
        parse_operations(operations)


def test_crop_outside_the_image_is_refused() -> None:
    with pytest.raises(InvalidOperation, match="leaves the image of 512x600 pixels"):
        rendered({"name": "crop", "left": 500, "width": 100})


def test_bomb_is_refused_by_its_header() -> None:
    # 10 gigapixels of black: some kilobytes as PNG, 10 GB unfolded. Only the header is ever read here.
    bomb = pyvips.Image.black(20_000, 20_000).write_to_buffer(".png", bitdepth=1, compression=9)
    assert len(bomb) < 200_000
    with pytest.raises(ImageTooLarge, match="20000x20000 pixels; at most 1,000,000"):
        rendered("thumbnail", data=bomb)


@pytest.mark.parametrize(
    "operation",
    [
        {"name": "resize", "width": 20_000, "height": 20_000, "enlarge": True},
        {"name": "thumbnail", "width": 20_000, "height": 20_000},
        # The box is small, but covering it takes 20,000 x 23,437 pixels first.
        {"name": "thumbnail", "width": 20_000, "height": 1},
    ],
)
def test_operation_that_would_make_a_bomb_is_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(ImageTooLarge, match="would make"):
        rendered(operation)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"%PDF-1.4",
    ],
)
def test_what_is_no_raster_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="expected JPEG, PNG"):
        rendered("resize", data=data)


def test_damaged_image_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot process this image"):
        rendered("resize", data=PHOTOGRAPH.read_bytes()[:20_000])


def test_cancelled_rendering_stops() -> None:
    large = pyvips.Image.gaussnoise(1_000, 1_000).cast("uchar").write_to_buffer(".png", compression=0)
    rendering = Rendering(large, parse_operations([{"name": "rotate", "angle": 7}]), MAX_PIXELS * 2)
    rendering.cancel()
    with pytest.raises(InvalidInput, match="killed"):
        rendering.run()
