"""Public names of the room; ``__init__.py`` loads them on demand."""

from .blocks import FourierFeatures as FourierFeatures
from .blocks import ImageEncoder as ImageEncoder
from .blocks import Level as Level
from .blocks import ResBlock as ResBlock
from .blocks import append_coordinates as append_coordinates
from .blocks import check_channels as check_channels
from .blocks import check_sides as check_sides
from .blocks import zero_init as zero_init
from .factory import NetworkFactory as NetworkFactory
from .factory import NetworkSpec as NetworkSpec
from .factory import build_network as build_network
from .factory import network_spec as network_spec
from .global_projector import GlobalPosteriorProjector as GlobalPosteriorProjector
from .projector import LocalPosteriorProjector as LocalPosteriorProjector
from .projector import LocalProjector as LocalProjector
from .rectangles import Rectangles as Rectangles
from .region_mixing import Candidates as Candidates
from .region_mixing import Composite as Composite
from .region_mixing import RegionMixer as RegionMixer
from .unet import ConditionEmbedding as ConditionEmbedding
from .unet import FactorFeatures as FactorFeatures
from .unet import SpatialBroadcast as SpatialBroadcast
from .unet import UNet as UNet
