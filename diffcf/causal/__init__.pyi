"""Public names of the room; ``__init__.py`` loads them on demand."""

from .curves import EdgeCurve as EdgeCurve
from .curves import edge_curves as edge_curves
from .dag import Dag as Dag
from .equations import StructuralEquations as StructuralEquations
from .factor import Factor as Factor
from .graph import CausalGraph as CausalGraph
from .interface import Reader as Reader
from .interface import Scene as Scene
from .interface import StructuralModel as StructuralModel
from .intervention import Do as Do
from .intervention import Intervention as Intervention
from .intervention import parse_do as parse_do
from .intervention import parse_sweep as parse_sweep
from .keys import image_keys as image_keys
from .keys import row_keys as row_keys
from .mechanisms import GroupedMLP as GroupedMLP
from .mechanisms import NoiseMap as NoiseMap
from .nscm import NSCM as NSCM
from .posterior import CodeDistribution as CodeDistribution
from .posterior import FactorPosterior as FactorPosterior
from .posterior import LocalPosterior as LocalPosterior
from .refinement import CONTAMINATION as CONTAMINATION
from .structure import EdgeGates as EdgeGates
from .units import Units as Units
from .units import scaled_do as scaled_do
from .units import scaled_factors as scaled_factors
