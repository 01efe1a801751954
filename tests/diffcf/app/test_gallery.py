from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

import diffcf
from diffcf.app.gallery import MAX_BYTES, Subject, from_data, from_folder, held_out, uploaded
from diffcf.io.errors import DataError, GraphError
from diffcf.io.transform import ImageTransform

ROOT = Path(__file__).parents[3]
FORM = ImageTransform(16)


def _png(size: tuple[int, int], mode: str = "RGB") -> bytes:
    buffer = BytesIO()
    Image.new(mode, size, "white").save(buffer, "PNG")
    return buffer.getvalue()


def test_an_upload_becomes_an_image_of_the_models_size() -> None:
    subject = uploaded(_png((40, 30)), FORM)
    assert subject.image.shape == (3, 16, 16) and torch.equal(subject.image, torch.ones(3, 16, 16))
    assert subject.factors is None and subject.scene is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "none of PNG"),
        (b"GIF89a" + bytes(100), "none of PNG"),
        (_png((40, 30))[:60], "cannot be read"),
        (bytes(MAX_BYTES + 1), "more than the 10 MB"),
        (_png((6000, 5000), "1"), "6000 × 5000 pixels, more than 25 million"),
    ],
    ids=["empty", "gif", "cut off", "bytes", "pixels"],
)
def test_an_upload_that_cannot_be_used_is_refused_in_one_sentence(
    content: bytes, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        uploaded(content, FORM)
    assert str(caught.value).endswith(".") and "BytesIO" not in str(caught.value)


def test_a_folder_offers_its_first_pictures(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.png").write_bytes(_png((20, 20)))
    assert [subject.title for subject in from_folder(tmp_path, FORM, 2)] == ["a", "b"]
    with pytest.raises(DataError):
        list(from_folder(tmp_path / "none", FORM, 2))


def test_an_answer_goes_back_into_the_whole_picture_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "wide.png"
    file.write_bytes(_png((64, 32)))
    (offered,) = from_folder(tmp_path, FORM, 1)
    for subject in (offered, uploaded(file.read_bytes(), FORM)):
        darker = subject.image.clone()
        darker[:, 4:12, 4:12] = -1
        whole = subject.whole(darker)
        assert whole is not None and whole.size == (64, 32)
        assert whole.getpixel((32, 16)) == (0, 0, 0) and whole.getpixel((8, 16)) == (255, 255, 255)
    assert Subject(offered.image, "drawn").whole(offered.image) is None
    file.unlink()
    with pytest.raises(DataError, match="does not exist"):
        offered.whole(offered.image)


def test_another_square_of_a_file_can_be_taken_and_goes_back_to_its_place(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 32), "white")
    picture.paste((0, 0, 0), (48, 0, 64, 32))
    picture.save(tmp_path / "wide.png")
    (offered,) = from_folder(tmp_path, FORM, 1)
    for subject in (offered, uploaded((tmp_path / "wide.png").read_bytes(), FORM)):
        assert subject.room == (32, 0)
        assert torch.equal(subject.placed(0.5, 0.5).image, subject.image)
        assert torch.equal(subject.placed(0.0, 0.5).image, torch.ones(3, 16, 16))
        right = subject.placed(1.0, 0.0)
        assert right.room == (32, 0) and right.image[:, :, -4:].eq(-1).all()
        whole = right.whole(torch.ones(3, 16, 16))
        assert whole is not None and whole.getpixel((60, 16)) == (255, 255, 255)
    drawn = Subject(offered.image, "drawn")
    assert drawn.room == (0, 0) and drawn.placed(0.1, 0.1) is drawn


def test_shipped_weights_offer_images_that_were_held_out() -> None:
    model = diffcf.load("pendulum")
    module = held_out(model, "pendulum", 5)
    subjects = from_data(module)
    assert len(subjects) == 5 and subjects[0].image.shape == (3, 64, 64)
    grid, is_test = module.scene.published_grid()
    tested = grid[is_test].float()
    for subject in subjects:
        assert subject.factors is not None
        assert (tested - subject.factors).abs().amax(1).min() < 1e-6


def test_weights_that_do_not_say_their_data_offer_none() -> None:
    model = diffcf.load("pendulum")
    model.module.data_spec = None
    assert held_out(model, "pendulum", 5) is None


def test_data_of_other_factors_is_refused() -> None:
    with pytest.raises(GraphError, match="has other factors than pendulum"):
        held_out(diffcf.load("pendulum"), "pendulum", 5, ROOT / "experiments/flow.yaml")
