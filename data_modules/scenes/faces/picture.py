"""How a cartoon face looks: painted back to front on CelebA's canvas of 178 × 218 pixels.

Every attribute is visible in one place, where no other hides it: Male in long hair beside the
cheeks or none (and the jaw's width), Young in creases on the forehead and grey hair, Bald in the
top of the head (which takes long hair away down to the ears), Narrow_Eyes in the lids' opening,
Smiling in the bend of the mouth, Mouth_Slightly_Open in its opening, Beard along the jaw.
Attributes between 0 and 1 blend.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from data_modules.scenes.drawing import checked_finite
from data_modules.scenes.faces.painting import FREE, Patch, free_colours, palette

ATTRIBUTES = ("Male", "Young", "Smiling", "Narrow_Eyes", "Mouth_Slightly_Open", "Bald", "Beard")


class Range(NamedTuple):
    """Of a quantity in which faces of the same attributes differ: limits and typical value."""

    low: float
    high: float
    typical: float


# Tones are places on a colour ramp; the rest is in canvas pixels, `size` a factor.
APPEARANCE = {
    "skin_tone": Range(0.0, 1.0, 0.25),
    "hair_tone": Range(0.0, 1.0, 0.4),
    "background_tone": Range(0.0, 1.0, 0.5),
    "clothes_tone": Range(0.0, 1.0, 0.55),
    "shift_x": Range(-3.5, 3.5, 0.0),
    "shift_y": Range(-3.5, 3.5, 0.0),
    "size": Range(0.96, 1.04, 1.0),
    "eye_distance": Range(-1.5, 1.5, 0.0),
    "mouth_height": Range(-1.5, 1.5, 0.0),
}
TYPICAL = {"Young": 1.0} | {name: span.typical for name, span in APPEARANCE.items()}
CANVAS = (218, 178)  # height, width
CROP = 148  # the central square that CelebADataModule keeps
CENTRE = (89.0, 109.0)  # x, y of a typical face
CHUNK_IMAGES = 32  # painted at once: 8 MB of canvas, which caches hold (twice as fast as 128)


def typical(names: Iterable[str]) -> Tensor:
    """Values ``[len(names)]`` of attributes and appearance in a typical face, which is young."""
    return torch.tensor([TYPICAL.get(name, 0.0) for name in names])


def draw_canvas(attributes: Tensor, appearance: Tensor) -> Tensor:
    """Faces ``[B, 3, 218, 178]`` in [0, 1], of attributes ``[B, 7]`` and appearance ``[B, 9]``.
    ValueError when they are not finite, here and in the other two functions that draw."""
    return _draw(attributes, appearance)


def draw_faces(attributes: Tensor, appearance: Tensor, image_size: int) -> Tensor:
    """The same as CelebADataModule loads it, ``[B, 3, image_size, image_size]`` in [-1, 1]: the
    central 148 × 148 pixels, resized with antialiasing."""
    return _draw(attributes, appearance, image_size).mul_(2).sub_(1)


def draw_shares(attributes: Tensor, appearance: Tensor, image_size: int) -> Tensor:
    """What :func:`draw_faces` is made of, ``[B, 7, image_size, image_size]``: the share of each of
    the four free colours in every pixel, and the fixed colour in it, in [0, 1]."""
    return _draw(attributes, appearance, image_size, shares=True)


def _draw(
    attributes: Tensor, appearance: Tensor, image_size: int | None = None, shares: bool = False
) -> Tensor:
    """Pictures in [0, 1], or shares; with ``image_size`` cropped and resized, else whole."""
    attributes, appearance = checked_finite(attributes), checked_finite(appearance)
    parts = []
    chunks = (part.split(CHUNK_IMAGES) for part in (attributes, appearance))
    for has, look in zip(*chunks, strict=True):
        if shares:
            free = torch.eye(len(FREE), len(FREE) + 3, device=look.device).expand(len(look), -1, -1)
        else:
            free = free_colours(look[:, : len(FREE)], has[:, ATTRIBUTES.index("Young")])
        part = _paint_faces(has, look, palette(free), whole=image_size is None)
        if image_size is not None:
            part = resized(part, image_size)
        parts.append(part)
    return torch.cat(parts)


def resized(images: Tensor, image_size: int) -> Tensor:
    """``[B, C, image_size, image_size]``, by an antialiased bilinear filter, as Pillow's."""
    if images.shape[-1] == image_size:
        return images
    return interpolate(images, (image_size, image_size), mode="bilinear", antialias=True)


def _paint_faces(
    attributes: Tensor, appearance: Tensor, colours: dict[str, Tensor], whole: bool
) -> Tensor:
    """Pixels ``[B, C, h, w]`` of the whole canvas, or of the central square that is kept."""
    height, width = CANVAS if whole else (CROP, CROP)
    if len(appearance) == 0:
        return appearance.new_zeros(0, colours["skin"].shape[1], height, width)
    look = dict(zip(APPEARANCE, appearance.unbind(1), strict=True))
    has = dict(zip(ATTRIBUTES, attributes[:, :, None, None].unbind(1), strict=True))
    pixels = colours["background"][:, :, None, None].expand(-1, -1, height, width).clone()
    # Pixels' centres from the middle of the face, in pixels.
    column, row = (CANVAS[1] - width) // 2, (CANVAS[0] - height) // 2
    columns, rows = (torch.arange(side, device=pixels.device) for side in (width, height))
    x = column + 0.5 + columns - (CENTRE[0] + look["shift_x"])[:, None]
    y = row + 0.5 + rows - (CENTRE[1] + look["shift_y"])[:, None]
    scale = look["size"][:, None, None]
    face = Patch(pixels, x[:, None, :] / scale, y[:, :, None] / scale, scale, colours)
    _behind(face, has)
    _head(face, has)
    _hair(face, has)
    _eyes(face, has, look["eye_distance"][:, None, None])
    _mouth(face, has, look["mouth_height"][:, None, None])
    return pixels


# --- parts of the face, back to front ---


def _behind(face: Patch, has: dict[str, Tensor]) -> None:
    """Glow on the wall, clothes, long hair falling down, neck, ears."""
    wall = face.part(-120, 120, -130, 130)
    wall.paint("glow", 0.8 * (1 - (wall.x.square() + wall.y.square()) / 95**2).clamp(0, 1))
    chest = face.part(-75, 75, 55, 130)
    chest.paint("clothes", chest.ellipse(0, 108, 66, 48))
    mane = face.part(-57, 57, -66, 78)
    long = mane.box(-55, 55, -60, 74, 46) * (1 - has["Male"])
    crown = torch.lerp(torch.ones_like(long), mane.ellipse(0, 28, 56, 60), has["Bald"])
    mane.paint("dark hair", long * crown)
    neck = face.part(-20, 20, 40, 78)
    neck.paint("shade", neck.box(-18, 18, 30, 74, 16))
    for side in (-1, 1):
        ear = face.part(side * 45 - 11, side * 45 + 11, -26, 20)
        ear.paint("hair", ear.ellipse(side * 43, -8, 8, 15) * has["Male"])
        ear.paint("skin", ear.ellipse(side * 44, 4, 8, 12) * has["Male"])
        ear.paint("shade", ear.ellipse(side * 45.5, 4, 4, 7) * has["Male"])


def _skull(patch: Patch, male: Tensor, wider: float = 0.0) -> Tensor:
    """Coverage of the whole head, ``wider`` all round."""
    top = patch.ellipse(0, -9, 43 + wider, 47 + wider)
    jaw = patch.ellipse(0, 8 + 2 * male, 36 + 6 * male + wider, 50 - 2 * male + wider)
    return torch.maximum(top, jaw)


def _head(face: Patch, has: dict[str, Tensor]) -> None:
    """Skin, creases, blush, nose, beard."""
    head = face.part(-50, 50, -60, 66)
    head.paint("skin", _skull(head, has["Male"]))
    low = face.part(-50, 50, -2, 66)
    chin = _skull(low, has["Male"], 2.5) * low.inside(low.y - 4) * (1 - low.ellipse(0, 8, 34, 40))
    low.paint("hair", chin * has["Beard"])
    shine = face.part(-30, 2, -54, -38)
    shine.paint("shine", shine.ellipse(-14, -46, 12, 5) * has["Bald"])
    brow = face.part(-24, 24, -40, -22)
    for y, reach in ((-35, 19), (-28, 22)):
        brow.paint("crease", brow.arc(0, y, reach, 1.5, 1.6) * (1 - has["Young"]))
    for side in (-1, 1):
        cheek = face.part(side * 26 - 9, side * 26 + 9, 9, 25)
        cheek.paint("blush", cheek.ellipse(side * 26, 17, 8, 5.5))
    nose = face.part(-8, 8, 6, 20)
    nose.paint("crease", nose.arc(0, 15, 6.5, 4, 1.5))


def _hair(face: Patch, has: dict[str, Tensor]) -> None:
    """The hair on top: short and square, or parted and sweeping down both temples."""
    top, male = face.part(-52, 52, -68, 6), has["Male"]
    u = (top.x / 44).abs()
    line = torch.lerp(-47 + 44 * u.pow(1.6), -42 + 34 * u.pow(5), male)
    cap = torch.lerp(top.ellipse(0, -12, 50, 53), top.ellipse(0, -15, 47, 48), male)
    top.paint("hair", cap * top.inside(line - top.y) * (1 - has["Bald"]))
    top.paint("gloss", top.arc(-12, -55, 17, -5, 2) * (1 - has["Bald"]))


def _eyes(face: Patch, has: dict[str, Tensor], distance: Tensor) -> None:
    opening = 9.5 - 6.5 * has["Narrow_Eyes"]
    for side in (-1, 1):
        x = side * (19 + distance)
        eye = face.part(side * 19 - 17, side * 19 + 17, -25, 14)
        ball = eye.ellipse(x, -2, 11, opening)
        eye.paint("white", ball)
        eye.paint("iris", ball * eye.ellipse(x, -2, 6.2, 6.2))
        eye.paint("ink", ball * eye.ellipse(x, -2, 3.6, 3.6))
        eye.paint("white", ball * eye.ellipse(x - 2.2, -4.2, 1.8, 1.8))
        eye.paint("ink", eye.arc(x, -2 - opening, 12.5, -opening, 1.7))
        eye.paint("brow", eye.arc(x, -18.5, 12, -3.5, 2.4))


def _mouth(face: Patch, has: dict[str, Tensor], height: Tensor) -> None:
    smile, gape = has["Smiling"], has["Mouth_Slightly_Open"]
    mouth = face.part(-24, 24, 17, 46)
    reach, bend = 14 + 7 * smile, -3.5 + 13.5 * smile
    y, half = 30 + height + bend / 2, 2.2 + 6.3 * gape
    mouth.paint("lip", mouth.arc(0, y, reach, bend, half))
    inner = mouth.arc(0, y, reach - 3, bend * 0.75, half - 2) * gape
    mouth.paint("throat", inner)
    mouth.paint("white", mouth.arc(0, y - 4.2, reach - 5, bend * 0.6, 2.6) * inner)
