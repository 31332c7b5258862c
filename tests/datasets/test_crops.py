import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from thesis_lib.datasets import PreparedSet, read_mvip
from thesis_lib.datasets.crops import crop_square, cut, decode, prepare_set
from thesis_lib.errors import ThesisError
from thesis_lib.sections import CropParameters


@st.composite
def masks(draw):
    """A mask with one box in it, anywhere, also at the border."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    mask = np.zeros((height, width), bool)
    mask[top : draw(st.integers(top + 1, height)), left : draw(st.integers(left + 1, width))] = True
    return mask


crops = st.builds(CropParameters, margin=st.floats(0, 1)) | st.builds(CropParameters, dilation=st.integers(0, 40))


@given(masks(), crops)
def test_erratum_16_the_square_holds_the_object_and_stays_inside_where_it_fits(mask, crop):
    left, top, side = crop_square(mask, crop)
    for start, length, there in ((left, mask.shape[1], mask.any(0)), (top, mask.shape[0], mask.any(1))):
        places = np.flatnonzero(there)
        assert start <= places[0] and places[-1] < start + side
        if side <= length:
            assert 0 <= start <= length - side
        else:
            assert start == (length - side) // 2
    if crop.dilation is not None:
        assert side <= max(mask.shape)


@settings(deadline=None)
@given(masks(), crops, st.integers(1, 20))
def test_erratum_16_no_crop_is_padded_black(mask, crop, size):
    picture = np.full((*mask.shape, 3), 200, np.uint8)
    pixels, small = cut(picture, mask, crop_square(mask, crop), size)
    assert pixels.shape == (size, size, 3) and small.shape == (size, size)
    assert (pixels == 200).all()
    assert small.any()


def test_erratum_16_an_empty_mask_gives_the_centred_square():
    assert crop_square(np.zeros((10, 30), bool), CropParameters()) == (10, 0, 10)
    assert crop_square(np.zeros((31, 20), bool), CropParameters(dilation=32)) == (0, 5, 20)


@pytest.mark.parametrize("length", [20, 40, 60, 100, 126])
@pytest.mark.parametrize("place", ["middle", "corner"])
def test_the_objects_share_does_not_reveal_its_size(length, place):
    mask = np.zeros((128, 128), bool)
    start = (128 - length) // 2 if place == "middle" else 0
    mask[start : start + length, start : start + length // 2] = True
    _, small = cut(np.zeros((128, 128, 3), np.uint8), mask, crop_square(mask, CropParameters(margin=0.15)), 64)
    assert abs(small.any(1).sum() / 64 - 1 / 1.3) < 1.5 / 64


def test_a_larger_square_mirrors_the_border_and_masks_nothing_there():
    picture = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    mask = np.ones((16, 16), bool)
    square = crop_square(mask, CropParameters(margin=0.25))
    assert square == (-4, -4, 24)
    pixels, small = cut(picture, mask, square, 24)
    assert (pixels[4:20, 4:20] == picture).all() and (pixels[4:20, 3] == picture[:, 1]).all()
    assert small.sum() == 256 and small[4:20, 4:20].all()


def test_the_thesis_dilation_is_in_pixels_and_clipped_to_the_picture():
    mask = np.zeros((200, 200), bool)
    mask[90:110, 60:70] = True
    assert crop_square(mask, CropParameters(dilation=32)) == (23, 58, 84)
    mask = np.zeros((200, 200), bool)
    mask[0:20, 0:20] = True
    assert crop_square(mask, CropParameters(dilation=32)) == (0, 0, 52)


def test_a_thin_object_keeps_a_mask():
    mask = np.zeros((400, 400), bool)
    mask[:, 200] = True
    _, small = cut(np.zeros((400, 400, 3), np.uint8), mask, crop_square(mask, CropParameters()), 16)
    assert small.any() and small.any(0).sum() == 1


def test_resizing_is_antialiased():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[::2] = 255  # stripes of one pixel: nearest or bilinear sampling would keep them
    pixels, _ = cut(picture, np.zeros((64, 64), bool), (0, 0, 64), 16)
    assert (abs(pixels.astype(int) - 128) < 20).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "LA"])
def test_masks_of_any_mode(tmp_path, mode, draw):
    path = draw(tmp_path / "a.png", size=(6, 4))
    on = np.zeros((4, 6), bool)
    on[1, 2:4] = True
    if mode == "I;16":
        image = Image.fromarray(on.astype(np.uint16) * 300)
    elif mode == "P":
        image = Image.fromarray(on.astype(np.uint8))
        image.putpalette([0, 0, 0, 0, 0, 0])  # both colours black: the index counts
    else:
        image = Image.fromarray(on.astype(np.uint8) * 255).convert(mode)
    image.save(tmp_path / "m.png")
    assert Image.open(tmp_path / "m.png").mode == mode
    picture, mask = decode(str(path), str(tmp_path / "m.png"))
    assert picture.shape == (4, 6, 3) and (mask == on).all()


def test_sixteen_bits_of_grey_keep_their_shades(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    picture, _ = decode(str(tmp_path / "ramp.png"))
    assert picture.shape == (64, 64, 3) and (picture == (ramp // 256)[..., None]).all()


def test_pictures_are_turned_upright(tmp_path):
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert decode(str(tmp_path / "a.jpg"))[0].shape == (6, 4, 3)


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "bits", "missing"])
@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_broken_picture_is_named(tmp_path, draw, damage, ending):
    path = draw(tmp_path / f"a.{ending}", size=(64, 64))
    content = path.read_bytes()
    half = len(content) // 2
    broken = {
        "empty": b"",
        "truncated": content[:half],
        "text": b"not a picture",
        "bits": content[:40] + b"\xff" * half,
    }
    path.unlink() if damage == "missing" else path.write_bytes(broken[damage])
    with pytest.raises(
        ThesisError, match=rf"a\.{ending} cannot be decoded as a picture.*replace the file or delete it"
    ):
        decode(str(path))


def test_a_mask_of_another_size_or_broken_is_named(tmp_path, draw):
    path, mask = draw(tmp_path / "a.png"), draw(tmp_path / "m.png", size=(5, 7))
    with pytest.raises(ThesisError, match=r"m\.png: the mask is 5 x 7 pixels, its picture 24 x 20"):
        decode(str(path), str(mask))
    mask.write_bytes(b"")
    with pytest.raises(ThesisError, match=r"m\.png cannot be decoded"):
        decode(str(path), str(mask))


def test_row_i_of_the_table_is_row_i_of_the_tensors(tmp_path, mvip):
    table = read_mvip(mvip)
    prepared = prepare_set(table, 16, CropParameters(), tmp_path / "out/images.parquet")
    assert prepared.pictures.dtype == torch.uint8 and prepared.masks.dtype == torch.bool
    for i, row in enumerate(table.itertuples()):
        picture, mask = decode(row.path, row.mask_path)
        pixels, small = cut(picture, mask, crop_square(mask, CropParameters()), 16)
        assert (prepared.pictures[i].permute(1, 2, 0).numpy() == pixels).all()
        assert (prepared.masks[i].numpy() == small).all()
    for rows in (table["split"] == "test", [3, 1], table.index[[3, 1]]):
        part = prepared.select(rows)
        assert isinstance(part, PreparedSet) and list(part.table.index) == list(range(len(part.table)))
        for i, source in enumerate(part.table["source_id"]):
            k = table.index[table["source_id"] == source][0]
            assert torch.equal(part.pictures[i], prepared.pictures[k]) and torch.equal(part.masks[i], prepared.masks[k])


def test_pictures_without_object_are_named_once(tmp_path, mvip, draw_view):
    draw_view(mvip / "drill_d/test_data/0", 1, box=None)
    (mvip / "drill_d/test_data/0/cam_02/02_rgb_mask_gen.png").unlink()
    with pytest.warns(UserWarning, match="1 of 12 pictures have no mask"):
        table = read_mvip(mvip, "Tool")
    names = "drill_d/test_data/0/cam_01/01_rgb, drill_d/test_data/0/cam_02/02_rgb"
    with pytest.warns(
        UserWarning, match=f"2 of 12 .* no mask or an empty one and get the centred square: {names}"
    ) as found:
        prepared = prepare_set(table, 8, CropParameters(), tmp_path / "images.parquet")
    assert len(found) == 1 and (~prepared.masks.flatten(1).any(1)).sum() == 2
