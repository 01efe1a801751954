"""What one browser tab does: a :class:`Controller` between a visitor's session and the page."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from nicegui import ui
from nicegui.events import UploadEventArguments

from diffcf.api import AbductedImages, Answer
from diffcf.app.asking import in_scaled_units, parse_field
from diffcf.app.elements import png
from diffcf.app.explorer import Explorer, image_key
from diffcf.app.gallery import MAX_BYTES, Subject, uploaded
from diffcf.app.inference import (
    LatestOnlyQueue,
    Query,
    Question,
    Result,
    open_worlds,
)
from diffcf.app.link import MOST_STEPS, Link, checked_draws, checked_seed
from diffcf.app.session import Session, causal_graph, replayed
from diffcf.app.view import View
from diffcf.io import FORMATS, InterventionError, to_picture

REFUSED = f"That file was refused: upload a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} of at most "
REFUSED += f"{MAX_BYTES // 10**6} MB."


class Controller:
    """One tab: passes what a visitor does to the session, and its results to the view."""

    def __init__(self, explorer: Explorer, items: Sequence[tuple[str, str]] = ()) -> None:
        self.explorer, self.seed = explorer, explorer.seed
        self.session: Session | None = None
        self.place: int | None = None  # of its image among those offered
        self.result: Result | None = None  # the one that is shown
        self.draws: int | None = None  # how many are shown
        self.queue = LatestOnlyQueue(explorer.thread, self._show, self._fail)
        model = explorer.model
        about = f"{explorer.name} · {type(model.module).__name__} · {model.device}"
        self.view = View(about, causal_graph(model), explorer.subjects, self)
        self.view.more.show_seed(self.seed)
        if explorer.subjects:
            ui.timer(0, lambda: self._follow(items), once=True)
        elif items:
            self.view.notify("This link cannot be opened: no images are offered here.")

    async def _follow(self, items: Sequence[tuple[str, str]]) -> None:
        """Open what a link says or, with a sentence where it is of no use, the first image."""
        try:
            link = Link.read(items, self.explorer.model.graph)
            place = self.explorer.place_of(link)
        except ValueError as error:
            self.view.notify(str(error))
            link, place = Link(), 0
        self.seed = self.explorer.seed if link.seed is None else link.seed
        self.view.more.show_seed(self.seed)
        subject = self.explorer.subjects[place]
        if not await self._open(lambda: subject, place, link.question, link.taken):
            await self.pick(0)
        elif link.draws is not None:
            await self.draw(link.draws)

    def _link(self, session: Session) -> Link | None:
        """The link to what is shown; None where an upload, or too many steps, allow of none."""
        if self.place is None or len(session.steps) > MOST_STEPS:
            return None
        key, model = image_key(session.start.subject), self.explorer.fingerprint
        return Link(session.question, len(session.steps), key, model, self.seed, self.draws)

    async def pick(self, place: int) -> None:
        """Open one of the images offered."""
        await self._open(lambda: self.explorer.subjects[place], place)

    async def carry(self, place: int) -> None:
        """Open one of the images offered, and ask of it what is asked now."""
        if (session := self.session) is not None:
            subject, taken = self.explorer.subjects[place], len(session.steps)
            await self._open(lambda: subject, place, session.question, taken)

    async def reseed(self, number: float | None) -> None:
        """Ask the same with other noise."""
        try:
            seed = checked_seed(number)
        except ValueError as error:
            self.view.more.show_error(str(error))
            return
        self.view.more.show_error(None)
        session = self.session
        if seed != self.seed and session is not None:
            self.seed, subject = seed, session.start.subject
            await self._open(lambda: subject, self.place, session.question, len(session.steps))

    async def draw(self, number: float | None) -> None:
        """Draw counterfactuals of what the image leaves open, one by one."""
        if (session := self.session) is None:
            return
        panel, version = self.view.draws, session.version
        dos = [in_scaled_units(settings, session.graph) for settings in session.question] or [{}]
        abducted = AbductedImages(session.start.model, session.start.inferred)
        try:
            count = checked_draws(number)
            panel.start(count)
            each, answers = abducted.drawn(dos, "scaled", count, self.seed), list[Answer]()
            while len(answers) < count:
                answer = (await self.explorer.thread.run(partial(next, each)))[-1]
                if self.session is not session or session.version != version:
                    return
                answers.append(replace(answer, image=answer.image.cpu()))
                panel.add(answers[-1].image[0], len(answers), count)
        except Exception as error:  # methods that offer no draws, among others
            panel.hide()
            panel.show_error(self._sentence(error))
            return
        panel.finish(abducted.gathered(answers), session.start.subject.image)
        self.draws = count
        self.view.show_link(self._link(session))

    async def ask_several(self, number: float | None) -> None:
        """Ask of the first images offered what is asked of this one."""
        if (session := self.session) is None:
            return
        panel, taken, question = self.view.sheet, len(session.steps), session.question
        model, seed = self.explorer.model, self.seed
        try:
            if not question:
                raise InterventionError("Nothing is set yet: set a factor first.")
            count = panel.checked(number)
            panel.start((question, seed))
            for place, subject in enumerate(self.explorer.subjects[:count]):

                def answered(subject: Subject = subject) -> Result:
                    worlds = open_worlds(model, subject, seed)
                    return replayed(worlds, question, taken).query().run()

                result = await self.explorer.thread.run(answered)
                if panel.about != (question, seed):
                    return
                panel.add(place, subject, result)
        except Exception as error:
            panel.hide()
            panel.show_error(self._sentence(error))
            return
        panel.finish(count)

    async def upload(self, event: UploadEventArguments) -> None:
        """Open a file that the browser sent; its name is not used."""
        self.view.upload.reset()
        content = await event.file.read()
        await self._open(partial(uploaded, content, self.explorer.transform), None)

    async def crop(self, across: float, down: float) -> None:
        """Ask the same of another square of the same file."""
        if (session := self.session) is not None:
            placed = partial(session.start.subject.placed, across, down)
            await self._open(placed, None, session.question, len(session.steps))

    def refuse(self) -> None:
        """Explain that the browser or the server did not accept a file."""
        self.view.upload.reset()
        self.view.notify(REFUSED)

    def download(self) -> None:
        """Send the counterfactual, pixel by pixel."""
        if self.result is not None:
            content = png(to_picture(self.result.image))
            ui.download.content(content, "counterfactual.png", "image/png")

    async def download_whole(self) -> None:
        """Send the counterfactual put back into the picture that it is a part of, at its size."""
        if self.session is None or (result := self.result) is None:
            return
        subject = self.session.start.subject
        try:
            picture = await self.explorer.thread.run(lambda: subject.whole(result.image))
        except Exception as error:  # the file may be gone by now
            self._fail(error)
            return
        if picture is not None:
            ui.download.content(png(picture), "counterfactual_whole.png", "image/png")

    async def ask(self, text: str) -> None:
        """Set in this step what the field says, and nothing else."""
        if self.session is None:
            return
        try:
            self.session.replace(parse_field(text, self.session.graph))
        except ValueError as error:
            self.view.ask.show_error(str(error))
            return
        self.view.ask.show_error(None)
        await self._ask(self.session)

    async def take(self) -> None:
        """Make the counterfactual that is shown the session's next step."""
        if (result := self.result) is not None:
            await self.change(lambda session: session.take(result))

    async def change(self, change: Callable[[Session], None]) -> None:
        """Make a change of the session, and show what follows."""
        if self.session is None:
            return
        try:
            change(self.session)
        except ValueError as error:
            self.view.notify(str(error))
        await self._ask(self.session)

    async def _open(
        self,
        subject: Callable[[], Subject],
        place: int | None,
        question: Question = (),
        taken: int = 0,
    ) -> bool:
        """Ask a question of an image, of whose steps some are taken; whether that was possible."""
        self._busy(True)
        model, seed = self.explorer.model, self.seed
        try:
            session = await self.explorer.thread.run(
                lambda: replayed(open_worlds(model, subject(), seed), question, taken)
            )
            room = await self.explorer.thread.run(lambda: session.start.subject.room)
        except Exception as error:  # whatever a visitor sends, the tab must remain usable
            self._fail(error)
            return False
        self.session, self.result, self.place = session, None, place
        self.view.show_subject(session.start, place, room)
        await self._ask(session)
        return True

    async def _ask(self, session: Session) -> None:
        """Show what the causal model predicts at once, and the image when it is generated."""
        self.view.show_state(session)
        self.draws = None
        self.view.draws.hide()
        self.view.sheet.keep((session.question, self.seed))
        self._busy(True)
        await self.queue.put(session.query())

    def _show(self, query: Query, result: Result, seconds: float) -> None:
        session = self.session
        if session is None or query.start is not session.start:
            return
        self.result = result
        self.view.show_result(session.start.subject.image, result)
        if query.version == session.version:
            generated = f"generated in {seconds:.2f} s" if query.do is not None else ""
            reader = f"read back by {query.start.reader}" if query.start.reader else ""
            self.view.summary = " · ".join(part for part in (generated, reader) if part)
            self.view.show_state(session)
            self.view.say(session, result)
            self.view.show_link(self._link(session))
            self._busy(False)

    def _busy(self, busy: bool) -> None:
        self.view.show_busy(busy, can_take=self.session is not None and bool(self.session.do))

    def _fail(self, error: Exception) -> None:
        self._busy(False)
        self.view.notify(self._sentence(error))

    @staticmethod
    def _sentence(error: Exception) -> str:
        """For people; what is no visitor's mistake is printed whole, too."""
        if not isinstance(error, ValueError):
            traceback.print_exception(error)
        return str(error).splitlines()[0] if str(error) else type(error).__name__
