"""Distillation losses as pure functions of arrays: one value per example."""

from jaxkd.losses._attention import (
    ATTENTION_TRANSFER,
    FACTOR_TRANSFER,
    NEURON_SELECTIVITY,
)
from jaxkd.losses._attention import attention_transfer as attention_transfer
from jaxkd.losses._attention import factor_transfer as factor_transfer
from jaxkd.losses._attention import neuron_selectivity as neuron_selectivity
from jaxkd.losses._chunks import in_chunks as in_chunks
from jaxkd.losses._contrastive import INFO_NCE, NOISE_CONTRASTIVE
from jaxkd.losses._contrastive import info_nce as info_nce
from jaxkd.losses._contrastive import noise_contrastive as noise_contrastive
from jaxkd.losses._correlation import (
    INTER_CLASS_RELATION,
    INTRA_CLASS_RELATION,
    MULTI_LEVEL,
)
from jaxkd.losses._correlation import inter_class_relation as inter_class_relation
from jaxkd.losses._correlation import intra_class_relation as intra_class_relation
from jaxkd.losses._correlation import multi_level as multi_level
from jaxkd.losses._correlation import standardize_logits as standardize_logits
from jaxkd.losses._correlations import (
    CORRELATION_CONGRUENCE,
    INTER_CHANNEL_CORRELATION,
)
from jaxkd.losses._correlations import correlation_congruence as correlation_congruence
from jaxkd.losses._correlations import (
    inter_channel_correlation as inter_channel_correlation,
)
from jaxkd.losses._distances import RELATIONAL_ANGLE, RELATIONAL_DISTANCE
from jaxkd.losses._distances import relational_angle as relational_angle
from jaxkd.losses._distances import relational_distance as relational_distance
from jaxkd.losses._divergences import JENSEN_SHANNON, REVERSE_KL, SKEWED_KL
from jaxkd.losses._divergences import jensen_shannon as jensen_shannon
from jaxkd.losses._divergences import reverse_kl as reverse_kl
from jaxkd.losses._divergences import skewed_kl as skewed_kl
from jaxkd.losses._features import (
    ACTIVATION_BOUNDARY,
    HINT,
    VARIATIONAL_INFORMATION,
)
from jaxkd.losses._features import activation_boundary as activation_boundary
from jaxkd.losses._features import hint as hint
from jaxkd.losses._features import variational_information as variational_information
from jaxkd.losses._flow import FLOW_OF_SOLUTION
from jaxkd.losses._flow import flow_of_solution as flow_of_solution
from jaxkd.losses._invariance import Arguments as Arguments
from jaxkd.losses._invariance import Declaration as Declaration
from jaxkd.losses._invariance import Transformation as Transformation
from jaxkd.losses._labeled import DECOUPLED_KL, NORMALIZED_KL
from jaxkd.losses._labeled import decoupled_kl as decoupled_kl
from jaxkd.losses._labeled import normalized_kl as normalized_kl
from jaxkd.losses._logits import LOGIT_MATCHING, MEAN_GAP, SOFT_TARGET_KL
from jaxkd.losses._logits import logit_matching as logit_matching
from jaxkd.losses._logits import mean_gap as mean_gap
from jaxkd.losses._logits import soft_target_kl as soft_target_kl
from jaxkd.losses._overhaul import OVERHAUL
from jaxkd.losses._overhaul import overhaul as overhaul
from jaxkd.losses._review import REVIEW
from jaxkd.losses._review import review as review
from jaxkd.losses._similarities import (
    CORRELATION_CONGRUENCE_KERNEL,
    PROBABILISTIC_TRANSFER,
    SELF_SUPERVISED_SIMILARITY,
    SIMILARITY_PRESERVING,
)
from jaxkd.losses._similarities import (
    correlation_congruence_kernel as correlation_congruence_kernel,
)
from jaxkd.losses._similarities import probabilistic_transfer as probabilistic_transfer
from jaxkd.losses._similarities import (
    self_supervised_similarity as self_supervised_similarity,
)
from jaxkd.losses._similarities import similarity_preserving as similarity_preserving
from jaxkd.losses._svd import SINGULAR_VALUE
from jaxkd.losses._svd import singular_value as singular_value
from jaxkd.losses._transformed import (
    TRANSFORMED_TEACHER_MATCHING,
    WEIGHTED_TRANSFORMED_TEACHER_MATCHING,
)
from jaxkd.losses._transformed import (
    transformed_teacher_matching as transformed_teacher_matching,
)
from jaxkd.losses._transformed import (
    weighted_transformed_teacher_matching as weighted_transformed_teacher_matching,
)

INVARIANCES: tuple[Declaration, ...] = (
    SOFT_TARGET_KL,
    LOGIT_MATCHING,
    MEAN_GAP,
    REVERSE_KL,
    JENSEN_SHANNON,
    SKEWED_KL,
    TRANSFORMED_TEACHER_MATCHING,
    WEIGHTED_TRANSFORMED_TEACHER_MATCHING,
    DECOUPLED_KL,
    NORMALIZED_KL,
    INTER_CLASS_RELATION,
    INTRA_CLASS_RELATION,
    MULTI_LEVEL,
    INFO_NCE,
    NOISE_CONTRASTIVE,
    HINT,
    ATTENTION_TRANSFER,
    FACTOR_TRANSFER,
    NEURON_SELECTIVITY,
    VARIATIONAL_INFORMATION,
    ACTIVATION_BOUNDARY,
    SIMILARITY_PRESERVING,
    RELATIONAL_DISTANCE,
    RELATIONAL_ANGLE,
    PROBABILISTIC_TRANSFER,
    CORRELATION_CONGRUENCE,
    CORRELATION_CONGRUENCE_KERNEL,
    SELF_SUPERVISED_SIMILARITY,
    INTER_CHANNEL_CORRELATION,
    FLOW_OF_SOLUTION,
    SINGULAR_VALUE,
    OVERHAUL,
    REVIEW,
)
"""What each loss does not see; ``proofs_checks`` verifies it in both directions."""
