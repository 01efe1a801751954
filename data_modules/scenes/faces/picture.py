"""How a cartoon face looks: painted back to front on CelebA's canvas of 178 × 218 pixels.

Every attribute shows in one place, and no other attribute hides it: Male in long hair beside the
cheeks or none (and the jaw's width), Young in creases on the forehead and grey hair, Bald in the
top of the head (which takes long hair away down to the ears), Narrow_Eyes in the lids' opening,
Smiling in the bend of the mouth, Mouth_Slightly_Open in its opening, Beard along the jaw.
Attributes between 0 and 1 blend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from data_modules.scenes.faces.easel import Easel, Patch, free_colours, mixed, separate

ATTRIBUTES = (
    "Male",
    "Young",
    "Smiling",
    "Narrow_Eyes",
    "Mouth_Slightly_Open",
    "Bald",
    "Beard",
)


@dataclass(frozen=True)
class Look:
    """A quantity in which faces of the same attributes differ: range and typical value."""

    low: float
    high: float
    typical: float


# Tones are places on a colour ramp; the rest is in canvas pixels, `size` a factor.
LOOKS = {
    "skin_tone": Look(0.0, 1.0, 0.25),
    "hair_tone": Look(0.0, 1.0, 0.4),
    "background_tone": Look(0.0, 1.0, 0.5),
    "clothes_tone": Look(0.0, 1.0, 0.55),
    "shift_x": Look(-3.5, 3.5, 0.0),
    "shift_y": Look(-3.5, 3.5, 0.0),
    "size": Look(0.96, 1.04, 1.0),
    "eye_distance": Look(-1.5, 1.5, 0.0),
    "mouth_height": Look(-1.5, 1.5, 0.0),
}
TONES = 4
CANVAS = (218, 178)  # height, width
CROP = 148  # the central square that CelebADataModule keeps
CENTRE = (89.0, 109.0)  # x, y of a typical face
CHUNK_IMAGES = 32  # painted at once: 8 MB of canvas, which caches hold (twice as fast as 128)


def draw_canvas(attributes: Tensor, looks: Tensor) -> Tensor:
    """Faces with attributes ``[B, 7]`` and looks ``[B, 9]``: ``[B, 3, 218, 178]`` in [0, 1].

    Raises:
        ValueError: when they are not finite.
    """
    return _in_chunks(
        lambda some, look: _painted(some, look, _colours(some, look), (0, 0), CANVAS),
        attributes,
        looks,
    )


def draw_faces(attributes: Tensor, looks: Tensor, image_size: int) -> Tensor:
    """The same as the data module makes of it, ``[B, 3, image_size, image_size]`` in [-1, 1]:
    the central 148 × 148 pixels, resized with antialiasing."""
    images = _in_chunks(
        lambda some, look: _cropped(some, look, _colours(some, look), image_size),
        attributes,
        looks,
    )
    return images.mul_(2).sub_(1)


def draw_shares(attributes: Tensor, looks: Tensor, image_size: int) -> Tensor:
    """What :func:`draw_faces` is made of, ``[B, 7, image_size, image_size]``: the share of each of
    the four free colours in every pixel, and the fixed colour in it, in [0, 1]."""
    return _in_chunks(
        lambda some, look: _cropped(some, look, separate(look), image_size),
        attributes,
        looks,
    )


def _in_chunks(
    draw: Callable[[Tensor, Tensor], Tensor], attributes: Tensor, looks: Tensor
) -> Tensor:
    attributes, looks = attributes.float(), looks.float()
    if not (torch.isfinite(attributes).all() and torch.isfinite(looks).all()):
        raise ValueError("Cannot draw factors that are NaN or infinite: check what made them.")
    parts = zip(attributes.split(CHUNK_IMAGES), looks.split(CHUNK_IMAGES), strict=True)
    return torch.cat([draw(some, look) for some, look in parts])


def _colours(attributes: Tensor, looks: Tensor) -> dict[str, Tensor]:
    young = attributes[:, ATTRIBUTES.index("Young")]
    return mixed(free_colours(looks[:, :TONES], young))


def _cropped(
    attributes: Tensor, looks: Tensor, colours: dict[str, Tensor], image_size: int
) -> Tensor:
    corner = ((CANVAS[0] - CROP) // 2, (CANVAS[1] - CROP) // 2)
    painted = _painted(attributes, looks, colours, corner, (CROP, CROP))
    # Pillow's antialiased bilinear filter.
    return interpolate(painted, (image_size, image_size), mode="bilinear", antialias=True)


def _painted(
    attributes: Tensor,
    looks: Tensor,
    colours: dict[str, Tensor],
    corner: tuple[int, int],
    shape: tuple[int, int],
) -> Tensor:
    """Pixels ``[B, C, *shape]`` of the canvas from ``corner`` (row, column) on."""
    if len(looks) == 0:
        return looks.new_zeros(0, colours["skin"].shape[1], *shape)
    look = dict(zip(LOOKS, looks.unbind(1), strict=True))
    rest = {name: value[:, None, None] for name, value in look.items()}
    has = dict(zip(ATTRIBUTES, attributes[:, :, None, None].unbind(1), strict=True))
    ground = colours["background"][:, :, None, None].expand(-1, -1, *shape).clone()
    centre = torch.stack([CENTRE[0] + look["shift_x"], CENTRE[1] + look["shift_y"]], 1)
    easel = Easel(ground, corner[1], corner[0], centre, look["size"])
    _behind(easel, colours, has)
    _head(easel, colours, has)
    _hair(easel, colours, has)
    _eyes(easel, colours, has, rest["eye_distance"])
    _mouth(easel, colours, has, rest["mouth_height"])
    return ground


# --- parts of the face, back to front ---


def _behind(easel: Easel, colours: dict[str, Tensor], has: dict[str, Tensor]) -> None:
    """Glow on the wall, clothes, long hair falling down, neck, ears."""
    wall = easel.patch(-120, 120, -130, 130)
    wall.paint(colours["glow"], 0.8 * (1 - (wall.x.square() + wall.y.square()) / 95**2).clamp(0, 1))
    chest = easel.patch(-75, 75, 55, 130)
    chest.paint(colours["clothes"], chest.ellipse(0, 108, 66, 48))
    mane = easel.patch(-57, 57, -66, 78)
    long = mane.box(-55, 55, -60, 74, 46) * (1 - has["Male"])
    crown = torch.lerp(torch.ones_like(long), mane.ellipse(0, 28, 56, 60), has["Bald"])
    mane.paint(colours["dark hair"], long * crown)
    neck = easel.patch(-20, 20, 40, 78)
    neck.paint(colours["shade"], neck.box(-18, 18, 30, 74, 16))
    for side in (-1, 1):
        ear = easel.patch(side * 45 - 11, side * 45 + 11, -26, 20)
        ear.paint(colours["hair"], ear.ellipse(side * 43, -8, 8, 15) * has["Male"])
        ear.paint(colours["skin"], ear.ellipse(side * 44, 4, 8, 12) * has["Male"])
        ear.paint(colours["shade"], ear.ellipse(side * 45.5, 4, 4, 7) * has["Male"])


def _skull(patch: Patch, male: Tensor, wider: float = 0.0) -> Tensor:
    """Coverage of the whole head, ``wider`` all round."""
    top = patch.ellipse(0, -9, 43 + wider, 47 + wider)
    jaw = patch.ellipse(0, 8 + 2 * male, 36 + 6 * male + wider, 50 - 2 * male + wider)
    return torch.maximum(top, jaw)


def _head(easel: Easel, colours: dict[str, Tensor], has: dict[str, Tensor]) -> None:
    """Skin, creases, blush, nose, beard."""
    head = easel.patch(-50, 50, -60, 66)
    head.paint(colours["skin"], _skull(head, has["Male"]))
    low = easel.patch(-50, 50, -2, 66)
    chin = _skull(low, has["Male"], 2.5) * low.inside(low.y - 4)
    chin = chin * (1 - low.ellipse(0, 8, 34, 40))
    low.paint(colours["hair"], chin * has["Beard"])
    shine = easel.patch(-30, 2, -54, -38)
    shine.paint(colours["shine"], shine.ellipse(-14, -46, 12, 5) * has["Bald"])
    brow = easel.patch(-24, 24, -40, -22)
    for y, reach in ((-35, 19), (-28, 22)):
        brow.paint(colours["crease"], brow.arc(0, y, reach, 1.5, 1.6) * (1 - has["Young"]))
    for side in (-1, 1):
        cheek = easel.patch(side * 26 - 9, side * 26 + 9, 9, 25)
        cheek.paint(colours["blush"], cheek.ellipse(side * 26, 17, 8, 5.5))
    nose = easel.patch(-8, 8, 6, 20)
    nose.paint(colours["crease"], nose.arc(0, 15, 6.5, 4, 1.5))


def _hair(easel: Easel, colours: dict[str, Tensor], has: dict[str, Tensor]) -> None:
    """The hair on top: short and square, or parted and sweeping down both temples."""
    top = easel.patch(-52, 52, -68, 6)
    u = (top.x / 44).abs()
    male = has["Male"]
    line = torch.lerp(-47 + 44 * u.pow(1.6), -42 + 34 * u.pow(5), male)
    cap = torch.lerp(top.ellipse(0, -12, 50, 53), top.ellipse(0, -15, 47, 48), male)
    cap = cap * top.inside(line - top.y) * (1 - has["Bald"])
    top.paint(colours["hair"], cap)
    top.paint(colours["gloss"], top.arc(-12, -55, 17, -5, 2) * (1 - has["Bald"]))


def _eyes(
    easel: Easel, colours: dict[str, Tensor], has: dict[str, Tensor], distance: Tensor
) -> None:
    opening = 9.5 - 6.5 * has["Narrow_Eyes"]
    for side in (-1, 1):
        x = side * (19 + distance)
        eye = easel.patch(side * 19 - 17, side * 19 + 17, -25, 14)
        ball = eye.ellipse(x, -2, 11, opening)
        eye.paint(colours["white"], ball)
        eye.paint(colours["iris"], ball * eye.ellipse(x, -2, 6.2, 6.2))
        eye.paint(colours["ink"], ball * eye.ellipse(x, -2, 3.6, 3.6))
        eye.paint(colours["white"], ball * eye.ellipse(x - 2.2, -4.2, 1.8, 1.8))
        eye.paint(colours["ink"], eye.arc(x, -2 - opening, 12.5, -opening, 1.7))
        eye.paint(colours["brow"], eye.arc(x, -18.5, 12, -3.5, 2.4))


def _mouth(
    easel: Easel, colours: dict[str, Tensor], has: dict[str, Tensor], height: Tensor
) -> None:
    smile, gape = has["Smiling"], has["Mouth_Slightly_Open"]
    mouth = easel.patch(-24, 24, 17, 46)
    reach, bend = 14 + 7 * smile, -3.5 + 13.5 * smile
    y = 30 + height + bend / 2
    half = 2.2 + 6.3 * gape
    mouth.paint(colours["lip"], mouth.arc(0, y, reach, bend, half))
    inner = mouth.arc(0, y, reach - 3, bend * 0.75, half - 2) * gape
    mouth.paint(colours["throat"], inner)
    teeth = mouth.arc(0, y - 4.2, reach - 5, bend * 0.6, 2.6)
    mouth.paint(colours["white"], teeth * inner)
