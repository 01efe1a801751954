"""Where the square lies that the model sees of a photograph, where there is room for others."""

from __future__ import annotations

from nicegui import ui

from diffcf.app.elements import Actions
from diffcf.app.gallery import PlacedCrop, Subject

AXES = ("across", "down")


class CropPanel:
    """A slider for each direction in which the square can move."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self.sliders: dict[str, ui.slider] = {}
        self.lines: dict[str, ui.element] = {}
        with ui.element("div").classes("crop") as self.root:
            for axis in AXES:
                with ui.element("div").classes("crop-line") as line:
                    ui.label(f"crop {axis}")
                    slider = ui.slider(min=0, max=1, step=0.01, value=0.5)
                    slider.props(f'dense aria-label="crop {axis}"')
                    # Sent when the slider is let go: each place is abducted anew.
                    slider.on("change", self._move, [])
                self.sliders[axis], self.lines[axis] = slider, line
                line.set_visibility(False)

    async def _move(self) -> None:
        across, down = (float(self.sliders[each].value) for each in AXES)
        await self.actions.crop(across, down)

    def show(self, subject: Subject, room: tuple[int, int]) -> None:
        """The place of a subject's square, which has so many pixels of room across and down."""
        transform = None if subject.source is None else subject.source[1]
        for axis, pixels in zip(AXES, room, strict=True):
            place = getattr(transform, axis) if isinstance(transform, PlacedCrop) else 0.5
            self.sliders[axis].set_value(place)
            self.lines[axis].set_visibility(pixels > 0)
