"""Matplotlib as the judge of our renderers, and one thread for small operations."""

from collections.abc import Callable, Iterator, Sequence

import matplotlib
import pytest
import torch
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

MatplotlibPicture = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On busy cores the threads of small operations wait for one another: one is faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def matplotlib_picture() -> MatplotlibPicture:
    def picture(
        artists: Sequence[Artist],
        size: int,
        xlim: tuple[float, float],
        ylim: tuple[float, float],
        snap: bool = False,
    ) -> Tensor:
        """``[3, size, size]`` in [-1, 1], by matplotlib's Agg on a 1×1 inch figure."""
        with matplotlib.rc_context(matplotlib.rcParamsDefault):
            figure = Figure(figsize=(1, 1), dpi=size)
            canvas = FigureCanvasAgg(figure)
            axes = figure.add_subplot()
            for artist in artists:
                if not snap:
                    artist.set_snap(False)
                axes.add_artist(artist)
            axes.set(xlim=xlim, ylim=ylim)
            axes.axis("off")
            canvas.draw()
            pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
        return pixels.reshape(size, size, 4)[..., :3].permute(2, 0, 1) / 127.5 - 1

    return picture
