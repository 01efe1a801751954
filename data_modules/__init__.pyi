"""Public names of the package; ``__init__.py`` loads them on demand."""

from .base import FactorImageDataModule as FactorImageDataModule
from .celeba import CelebADataModule as CelebADataModule
from .factor_table import FactorTableDataModule as FactorTableDataModule
from .flow import FlowDataModule as FlowDataModule
from .flow import PublishedFlowDataModule as PublishedFlowDataModule
from .morphomnist import MorphoMNISTDataModule as MorphoMNISTDataModule
from .observed import observed_factors as observed_factors
from .pendulum import PendulumDataModule as PendulumDataModule
from .pendulum import PublishedPendulumDataModule as PublishedPendulumDataModule
from .scene_module import SceneDataModule as SceneDataModule
from .shadow import PointlightDataModule as PointlightDataModule
from .shadow import PublishedPointlightDataModule as PublishedPointlightDataModule
from .shadow import PublishedShadowDataModule as PublishedShadowDataModule
from .shadow import PublishedSunlightDataModule as PublishedSunlightDataModule
from .shadow import ShadowDataModule as ShadowDataModule
from .shadow import SunlightDataModule as SunlightDataModule
from .stored import StoredImageDataModule as StoredImageDataModule
