"""A small untrained model, one image of the Pendulum, and its worlds."""

from __future__ import annotations

import pytest
from stirring import stir

from data_modules.scenes.pendulum import PendulumScene
from diffcf.api import Model
from diffcf.app.gallery import Subject
from diffcf.app.inference import open_worlds
from diffcf.app.session import Session
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling


@pytest.fixture
def small(model: DiffusionCounterfactuals) -> Model:
    stir(model)  # or nothing would depend on anything
    return Model(model, Sampling(steps=2, anchored=True))


@pytest.fixture
def subject(scene: PendulumScene, small_batch: dict) -> Subject:
    return Subject(small_batch["image"][3], "one", small_batch["factors"][3], scene)


@pytest.fixture
def session(small: Model, subject: Subject) -> Session:
    return Session(open_worlds(small, subject))
