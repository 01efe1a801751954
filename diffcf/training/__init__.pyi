"""Public names of the room; ``__init__.py`` loads them on demand."""

from .callbacks.averaging import ForeachEMA as ForeachEMA
from .callbacks.card import CardSettings as CardSettings
from .callbacks.counterfactual import CounterfactualCallback as CounterfactualCallback
from .callbacks.initial import InitialWeights as InitialWeights
from .callbacks.running import LastCheckpoint as LastCheckpoint
from .callbacks.running import ProgressBar as ProgressBar
from .callbacks.running import RandomState as RandomState
from .callbacks.running import TrainingBudget as TrainingBudget
from .callbacks.writer import CounterfactualWriter as CounterfactualWriter
from .cli import DiffcfCLI as DiffcfCLI
from .cli import cli as cli
from .datasets import Batch as Batch
from .datasets import FactorData as FactorData
from .datasets import load_data as load_data
from .datasets import make_data as make_data
from .flags import settings_errors as settings_errors
from .flags import settle_flags as settle_flags
from .graph_learning import GraphLearning as GraphLearning
from .graph_learning import learn_graph as learn_graph
from .hints import without_hints as without_hints
from .pixels import PixelStatistics as PixelStatistics
from .pixels import pixel_statistics as pixel_statistics
from .tracking import WandbRecorder as WandbRecorder
from .tracking import provenance as provenance
from .tracking import sampling_record as sampling_record
