"""Public names of the room; ``__init__.py`` loads them on demand."""

from .abducted import Abducted as Abducted
from .base import (
    CounterfactualModule as CounterfactualModule,
)
from .checkpoint import (
    SAMPLING_KEY as SAMPLING_KEY,
)
from .checkpoint import (
    WEIGHTS_SUFFIX as WEIGHTS_SUFFIX,
)
from .checkpoint import (
    TrainedIO as TrainedIO,
)
from .checkpoint import (
    TrainingRecord as TrainingRecord,
)
from .checkpoint import (
    building as building,
)
from .checkpoint import (
    read_checkpoint as read_checkpoint,
)
from .checkpoint import (
    read_trained as read_trained,
)
from .checkpoint import (
    sampling_from_spec as sampling_from_spec,
)
from .checkpoint import (
    sampling_to_spec as sampling_to_spec,
)
from .checkpoint import (
    weights_digest as weights_digest,
)
from .diffusion_counterfactuals import (
    DiffusionCounterfactuals as DiffusionCounterfactuals,
)
from .drawing import (
    STEPS as STEPS,
)
from .drawing import (
    DrawnImages as DrawnImages,
)
from .drawing import (
    draw_factors as draw_factors,
)
from .drawing import (
    draw_images as draw_images,
)
from .draws import (
    FRESH as FRESH,
)
from .draws import (
    Draws as Draws,
)
from .draws import central_interval as central_interval
from .draws import (
    check_draws as check_draws,
)
from .draws import (
    drawn_worlds as drawn_worlds,
)
from .encoded import (
    EncodedMethod as EncodedMethod,
)
from .encoded import (
    EncodedWorld as EncodedWorld,
)
from .engine import (
    CounterfactualEngine as CounterfactualEngine,
)
from .finding import (
    WEIGHTS as WEIGHTS,
)
from .finding import (
    find_weights as find_weights,
)
from .finding import (
    shipped as shipped,
)
from .first_stage import (
    FirstStageTraining as FirstStageTraining,
)
from .hint_finding import (
    find_hints as find_hints,
)
from .interface import (
    Counterfactual as Counterfactual,
)
from .interface import (
    Method as Method,
)
from .interface import (
    World as World,
)
from .interface import (
    check_image as check_image,
)
from .interface import (
    predict_sequence as predict_sequence,
)
from .loading import (
    load_method as load_method,
)
from .loading import (
    method_of as method_of,
)
from .loading import (
    write_weights as write_weights,
)
from .muon import Muon as Muon
from .muon import muon_groups as muon_groups
from .onnx_export import check_onnx as check_onnx
from .onnx_export import write_onnx as write_onnx
from .onnx_parts import Part as Part
from .onnx_parts import Port as Port
from .onnx_parts import parts_of as parts_of
from .peers.causal_diffae import (
    CausalDiffAE as CausalDiffAE,
)
from .peers.causal_latents import (
    LabelPrior as LabelPrior,
)
from .peers.causal_latents import (
    LatentMechanisms as LatentMechanisms,
)
from .peers.causal_latents import (
    LatentMethod as LatentMethod,
)
from .peers.causal_latents import (
    LatentModule as LatentModule,
)
from .peers.causal_latents import (
    LatentWorld as LatentWorld,
)
from .peers.causal_vae import (
    CausalLayers as CausalLayers,
)
from .peers.causal_vae import (
    CausalVAE as CausalVAE,
)
from .peers.conditional import (
    ConditionalDiffusion as ConditionalDiffusion,
)
from .peers.diff_scm import (
    DiffSCM as DiffSCM,
)
from .peers.diff_scm import (
    FactorPredictor as FactorPredictor,
)
from .peers.hvae import (
    ConditionalHVAE as ConditionalHVAE,
)
from .peers.hvae import (
    Explained as Explained,
)
from .peers.hvae_dscm import (
    HierarchicalVAE as HierarchicalVAE,
)
from .peers.hvae_dscm import (
    HVAEWorld as HVAEWorld,
)
from .peers.latent_networks import (
    Gaussian as Gaussian,
)
from .peers.latent_networks import (
    LatentDecoder as LatentDecoder,
)
from .peers.latent_networks import (
    LatentEncoder as LatentEncoder,
)
from .peers.latent_networks import (
    LatentFeatures as LatentFeatures,
)
from .peers.latent_networks import (
    LatentUNet as LatentUNet,
)
from .sampling import (
    Sampling as Sampling,
)
from .schedule import check_amount as check_amount
from .schedule import check_share as check_share
from .schedule import warm_cosine as warm_cosine
from .sharded import (
    ShardedDiffusionCounterfactuals as ShardedDiffusionCounterfactuals,
)
