"""Public names of the room; ``__init__.py`` loads them on demand."""

from .guidance.classifier_free import (
    ClassifierFree as ClassifierFree,
)
from .guidance.gradient_rules import (
    ConstantGuidance as ConstantGuidance,
)
from .guidance.gradient_rules import (
    GaussNewtonGuidance as GaussNewtonGuidance,
)
from .guidance.gradient_rules import (
    LineSearchGuidance as LineSearchGuidance,
)
from .guidance.gradient_rules import (
    PolyakGuidance as PolyakGuidance,
)
from .guidance.gradient_rules import (
    VarianceBalancedGuidance as VarianceBalancedGuidance,
)
from .guidance.rule import (
    Guidance as Guidance,
)
from .guidance.rule import (
    Guide as Guide,
)
from .guidance.rule import (
    NoGuidance as NoGuidance,
)
from .guidance.rule import (
    Posterior as Posterior,
)
from .guidance.rule import (
    Projector as Projector,
)
from .guidance.rule import (
    Shift as Shift,
)
from .process import (
    Denoiser as Denoiser,
)
from .process import (
    Generator as Generator,
)
from .process import (
    Prediction as Prediction,
)
from .process import (
    add_noise as add_noise,
)
from .process import (
    denoiser_of as denoiser_of,
)
from .process import (
    leaky_noise as leaky_noise,
)
from .process import (
    noise_level as noise_level,
)
from .process import (
    prediction_from_velocity as prediction_from_velocity,
)
from .process import (
    random_condition_mask as random_condition_mask,
)
from .process import (
    signal_level as signal_level,
)
from .process import (
    stratified_times as stratified_times,
)
from .process import (
    velocity_loss as velocity_loss,
)
from .sampling import (
    EpsShift as EpsShift,
)
from .sampling import (
    Inversion as Inversion,
)
from .sampling import (
    invert as invert,
)
from .sampling import (
    sample as sample,
)
from .sampling import (
    time_grid as time_grid,
)
