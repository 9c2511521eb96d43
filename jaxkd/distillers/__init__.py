"""Distillation methods as composable (init, loss) pairs."""

from jaxkd.distillers._at_layers import at_layers as at_layers
from jaxkd.distillers._attention import attention_transfer as attention_transfer
from jaxkd.distillers._attention import factor_transfer as factor_transfer
from jaxkd.distillers._attention import neuron_selectivity as neuron_selectivity
from jaxkd.distillers._base import Batch as Batch
from jaxkd.distillers._base import Classifier as Classifier
from jaxkd.distillers._base import Distiller as Distiller
from jaxkd.distillers._base import DistillerState as DistillerState
from jaxkd.distillers._base import LayerPaths as LayerPaths
from jaxkd.distillers._base import Pretraining as Pretraining
from jaxkd.distillers._base import Spec as Spec
from jaxkd.distillers._base import Views as Views
from jaxkd.distillers._base import require_classifier as require_classifier
from jaxkd.distillers._base import require_embeddings as require_embeddings
from jaxkd.distillers._base import require_output as require_output
from jaxkd.distillers._base import require_stages as require_stages
from jaxkd.distillers._base import require_teacher as require_teacher
from jaxkd.distillers._channel_relations import (
    channel_distributions as channel_distributions,
)
from jaxkd.distillers._channel_relations import (
    inter_channel_correlation as inter_channel_correlation,
)
from jaxkd.distillers._class_relations import class_relation as class_relation
from jaxkd.distillers._class_relations import multi_level as multi_level
from jaxkd.distillers._class_relations import (
    standardized_soft_targets as standardized_soft_targets,
)
from jaxkd.distillers._contrastive import ContrastState as ContrastState
from jaxkd.distillers._contrastive import (
    contrastive_representation as contrastive_representation,
)
from jaxkd.distillers._divergences import jensen_shannon as jensen_shannon
from jaxkd.distillers._divergences import reverse_kl as reverse_kl
from jaxkd.distillers._divergences import skewed_kl as skewed_kl
from jaxkd.distillers._example_relations import (
    correlation_congruence as correlation_congruence,
)
from jaxkd.distillers._example_relations import (
    correlation_congruence_kernel as correlation_congruence_kernel,
)
from jaxkd.distillers._example_relations import (
    probabilistic_transfer as probabilistic_transfer,
)
from jaxkd.distillers._example_relations import (
    similarity_preserving as similarity_preserving,
)
from jaxkd.distillers._feature_maps import activation_boundary as activation_boundary
from jaxkd.distillers._feature_maps import hint as hint
from jaxkd.distillers._feature_maps import (
    variational_information as variational_information,
)
from jaxkd.distillers._from_loss import from_loss as from_loss
from jaxkd.distillers._holistic import HolisticState as HolisticState
from jaxkd.distillers._holistic import holistic as holistic
from jaxkd.distillers._labeled import decoupled_kl as decoupled_kl
from jaxkd.distillers._labeled import normalized_kl as normalized_kl
from jaxkd.distillers._metadata import Method as Method
from jaxkd.distillers._named_layers import Layers as Layers
from jaxkd.distillers._named_layers import with_layers as with_layers
from jaxkd.distillers._objective import Objective as Objective
from jaxkd.distillers._overhaul import overhaul as overhaul
from jaxkd.distillers._recipes import METHODS as METHODS
from jaxkd.distillers._recipes import PARTS as PARTS
from jaxkd.distillers._recipes import RECIPES as RECIPES
from jaxkd.distillers._recipes import WARMUP_EPOCHS as WARMUP_EPOCHS
from jaxkd.distillers._recipes import recipe as recipe
from jaxkd.distillers._relational import relational as relational
from jaxkd.distillers._reused_classifier import reused_classifier as reused_classifier
from jaxkd.distillers._review import review as review
from jaxkd.distillers._schedules import EpochSchedule as EpochSchedule
from jaxkd.distillers._schedules import Schedule as Schedule
from jaxkd.distillers._schedules import warmup as warmup
from jaxkd.distillers._self_supervised import rotations as rotations
from jaxkd.distillers._self_supervised import self_supervised as self_supervised
from jaxkd.distillers._semantic_calibration import (
    semantic_calibration as semantic_calibration,
)
from jaxkd.distillers._soft_targets import cross_entropy as cross_entropy
from jaxkd.distillers._soft_targets import logit_matching as logit_matching
from jaxkd.distillers._soft_targets import soft_targets as soft_targets
from jaxkd.distillers._soft_targets import (
    transformed_teacher_matching as transformed_teacher_matching,
)
from jaxkd.distillers._soft_targets import (
    weighted_transformed_teacher_matching as weighted_transformed_teacher_matching,
)
from jaxkd.distillers._softmax_regression import (
    softmax_regression as softmax_regression,
)
from jaxkd.distillers._spec import spec as spec
from jaxkd.distillers._stage_flow import flow_of_solution as flow_of_solution
from jaxkd.distillers._stage_flow import singular_value as singular_value
from jaxkd.distillers._weighted import weighted as weighted
