"""Files that are meant to harm: refused in one sentence, before a pixel is decoded."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcf.commands.fid import FolderImages
from diffcf.io.errors import DataError
from diffcf.io.images import MAX_BYTES, MAX_PIXELS, UnusableImage, open_image
from diffcf.io.transform import ImageTransform, decode

MEGABYTES = b"".join([(z := zlib.compressobj(9)).compress(bytes(64 * 2**20)), z.flush()])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, side: int, bits: int = 8, colour: int = 2, more: bytes = b"") -> Path:
    """A PNG that says it has ``side``² pixels, and the bytes of an 8 × 8 one."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(8 * 25)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + more + body + chunk(b"IEND", b""))
    return path


def tiff(path: Path, side: int, data: bytes, tile: int | None = None) -> Path:
    """A grey TIFF that says it has ``side``² pixels, packed in one strip or one tile."""
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1}
    if tile is None:
        tags |= {273: 8, 278: side, 279: len(data)}
    else:
        tags |= {322: tile, 323: tile, 324: 8, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)
    return path


def huge_webp(path: Path) -> Path:
    Image.new("RGB", (16_000, 8_000)).save(path, lossless=True)
    return path


def cut(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def heavy(path: Path) -> Path:
    """Sparse: it says it is large and takes no room."""
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    return path


HOSTILE = {
    "bomb.png": (lambda p: png(p, 50_000), "far too many pixels"),
    "large.png": (
        lambda p: png(p, 11_000),
        "pixels, more than 120 million: scale it down",
    ),
    "text.png": (lambda p: png(p, 8, more=chunk(b"zTXt", b"a\0\0" + MEGABYTES)), "cannot be read"),
    "international.png": (
        lambda p: png(p, 8, more=chunk(b"iTXt", b"a\0\1\0\0\0" + MEGABYTES)),
        "cannot be read",
    ),
    "profile.png": (
        lambda p: png(p, 8, more=chunk(b"iCCP", b"a\0\0" + MEGABYTES)),
        "cannot be read",
    ),
    "wide.webp": (huge_webp, "has 16000 × 8000 pixels"),
    "cut.png": (cut, "cannot be read"),
    "cut.jpg": (cut, "cannot be read"),
    "cut.tif": (cut, "cannot be read"),
    "bomb.tif": (lambda p: tiff(p, 50_000, zlib.compress(bytes(64))), "far too many pixels"),
    "large.tif": (lambda p: tiff(p, 11_000, MEGABYTES), "more than 120 million"),
    "tile.tif": (
        lambda p: tiff(p, 8, MEGABYTES, tile=8192),
        "has tiles of 67,108,864 pixels, more than the picture: save it anew",
    ),
    "pipe.png": (pipe, "is no file"),
    "folder.png": (folder, "is no file"),
    "heavy.png": (heavy, "takes 512 MiB"),
    "script.png": (lambda p: p.write_bytes(b"%!PS-Adobe\n") and p, "none of PNG"),
    "absent.png": (lambda p: p, "does not exist"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_hostile_file_is_one_sentence_and_little_memory(tmp_path: Path, name: str) -> None:
    make, said = HOSTILE[name]
    file = make(tmp_path / name)
    tracemalloc.start()
    with pytest.raises(DataError, match=said) as caught:
        decode(file, ImageTransform(8), "table.csv row 2")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"Image {file} (table.csv row 2)")
    assert peak < 8 * 2**20


def test_no_pixel_of_a_bomb_is_decoded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it is decoded"))
    bomb = png(tmp_path / "bomb.png", int(MAX_PIXELS**0.5) + 1)
    with pytest.raises(UnusableImage), open_image(bomb):
        pass


@pytest.mark.parametrize("ending", [".png", ".webp"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), (20 * k, 0, 0)) for k in range(10)]
    path = tmp_path / f"many{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert (decode(path, ImageTransform(8), "row 2") == 0).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "P"])
def test_strips_of_a_picture_are_the_picture(tmp_path: Path, mode: str, monkeypatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., :2].copy().view(np.uint16)[..., 0])
    elif mode == "P":
        image = image.convert("RGB").quantize(8)
        image.info["transparency"] = 0
    else:
        image = image.convert(mode)
    image.save(tmp_path / "a.png")
    whole = decode(tmp_path / "a.png", ImageTransform(16), "row 2")
    monkeypatch.setattr("diffcf.io.images.STRIP", 70)
    assert np.array_equal(decode(tmp_path / "a.png", ImageTransform(16), "row 2"), whole)


def test_a_broken_orientation_is_no_crash(tmp_path: Path) -> None:
    """Every byte of the EXIF block, one after another: read, or one sentence."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    data = (tmp_path / "a.jpg").read_bytes()
    start = data.index(b"Exif")
    for place in range(start, start + 40):
        (tmp_path / "b.jpg").write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        try:
            assert decode(tmp_path / "b.jpg", ImageTransform(4), "row 2").shape == (3, 4, 4)
        except DataError as error:
            assert "\n" not in str(error)


def test_a_tiff_in_large_tiles_is_read(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", 8, zlib.compress(bytes([70]) * 256**2), tile=256)
    assert (decode(path, ImageTransform(8), "row 2") == 70).all()


def test_fid_refuses_what_decoding_refuses(tmp_path: Path) -> None:
    png(tmp_path / "bomb.png", 50_000)
    with pytest.raises(DataError, match=r"bomb\.png has far too many pixels: scale it down\.$"):
        next(iter(FolderImages(tmp_path, 4)))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it is Linux that tells")
@pytest.mark.parametrize("colour", [0, 6], ids=["grey", "rgba"])
def test_the_largest_picture_takes_eight_bytes_a_pixel(tmp_path: Path, colour: int) -> None:
    """16 bits a channel, nearly MAX_PIXELS, in less than a megabyte of file."""
    side = 10_900
    row, packed = bytes(1 + side * (2 if colour == 0 else 8)), zlib.compressobj(9)
    body = b"".join([*(packed.compress(row) for _ in range(side)), packed.flush()])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, colour, 0, 0, 0))
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    assert path.stat().st_size < 2**20
    code = f"""
import pathlib, re
from diffcf.io.transform import ImageTransform, decode
# Not getrusage: what it says of a child begins with the peak of its parent.
status = pathlib.Path("/proc/self/status")
peak = lambda: int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
before = peak()
decode(pathlib.Path({str(path)!r}), ImageTransform(8), "row 2")
print((peak() - before) * 1024)
"""
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    print(f"{int(told.stdout) / 2**20:.0f} MiB")
    assert int(told.stdout) < 8 * side**2 + 64 * 2**20
