"""Public names of the room; ``__init__.py`` loads them on demand."""

from .answers import (
    Answered as Answered,
)
from .answers import (
    FactualBatch as FactualBatch,
)
from .answers import (
    Strength as Strength,
)
from .cost import (
    IMAGES as IMAGES,
)
from .cost import (
    Cost as Cost,
)
from .cost import (
    EvaluationCounter as EvaluationCounter,
)
from .cost import (
    measure_cost as measure_cost,
)
from .cost import (
    peak_memory as peak_memory,
)
from .evaluate import (
    CounterfactualEvaluation as CounterfactualEvaluation,
)
from .evaluator.card import (
    ReadingError as ReadingError,
)
from .evaluator.card import (
    card_markdown as card_markdown,
)
from .evaluator.card import (
    measure_readings as measure_readings,
)
from .evaluator.module import (
    FactorEvaluator as FactorEvaluator,
)
from .evaluator.module import (
    ImageVAE as ImageVAE,
)
from .evaluator.reader import (
    EvaluatorReader as EvaluatorReader,
)
from .metrics.acm import (
    CounterfactualRates as CounterfactualRates,
)
from .metrics.acm import (
    absolute_counterfactual_mismatch as absolute_counterfactual_mismatch,
)
from .metrics.axioms import (
    Composition as Composition,
)
from .metrics.axioms import (
    Reversibility as Reversibility,
)
from .metrics.cld import (
    Latents as Latents,
)
from .metrics.disentanglement import (
    DCI as DCI,
)
from .metrics.disentanglement import (
    IRS as IRS,
)
from .metrics.disentanglement import (
    CodeMetric as CodeMetric,
)
from .metrics.disentanglement import (
    irs as irs,
)
from .metrics.effectiveness import (
    READING as READING,
)
from .metrics.effectiveness import (
    VALUE as VALUE,
)
from .metrics.effectiveness import (
    Effectiveness as Effectiveness,
)
from .metrics.fidelity import (
    Fidelity as Fidelity,
)
from .metrics.fidelity import (
    Minimality as Minimality,
)
from .metrics.fidelity import (
    SequenceFidelity as SequenceFidelity,
)
from .metrics.frechet import (
    GaussianStatistics as GaussianStatistics,
)
from .metrics.frechet import (
    GenerationQuality as GenerationQuality,
)
from .metrics.frechet import (
    RealStatistics as RealStatistics,
)
from .metrics.graph_distance import (
    EdgeF1 as EdgeF1,
)
from .metrics.graph_distance import (
    StructuralHammingDistance as StructuralHammingDistance,
)
from .metrics.image_metric import (
    ImageMetric as ImageMetric,
)
from .metrics.inception import (
    FeatureNetwork as FeatureNetwork,
)
from .metrics.inception import (
    InceptionFeatures as InceptionFeatures,
)
from .metrics.inception import (
    load_inception as load_inception,
)
from .metrics.real_statistics import (
    CACHE as CACHE,
)
from .metrics.real_statistics import (
    bias_note as bias_note,
)
from .metrics.real_statistics import (
    real_statistics as real_statistics,
)
from .oracle import (
    Truth as Truth,
)
from .perceptual import (
    Perceptual as Perceptual,
)
from .protocol import (
    InterventionPlan as InterventionPlan,
)
from .protocol import (
    Protocol as Protocol,
)
from .readings import (
    ModelReadout as ModelReadout,
)
from .readings import (
    Part as Part,
)
from .readings import (
    ReadingScores as ReadingScores,
)
from .references import (
    ChangeEverything as ChangeEverything,
)
from .references import (
    DoNothing as DoNothing,
)
from .references import (
    ExactMethod as ExactMethod,
)
from .references import (
    ReferenceWorld as ReferenceWorld,
)
from .scores import (
    MethodFor as MethodFor,
)
from .scores import (
    Scores as Scores,
)
