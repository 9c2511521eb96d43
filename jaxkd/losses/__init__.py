"""Distillation losses as pure functions of arrays: one value per example."""

from jaxkd.losses import (
    _attention,
    _channel_relations,
    _class_relations,
    _contrastive,
    _divergences,
    _example_relations,
    _feature_maps,
    _labeled,
    _overhaul,
    _relational,
    _review,
    _self_supervised,
    _soft_targets,
    _stage_flow,
    _symmetries,
)
from jaxkd.losses._attention import attention_transfer as attention_transfer
from jaxkd.losses._attention import factor_transfer as factor_transfer
from jaxkd.losses._attention import neuron_selectivity as neuron_selectivity
from jaxkd.losses._channel_relations import (
    channel_distributions as channel_distributions,
)
from jaxkd.losses._channel_relations import (
    inter_channel_correlation as inter_channel_correlation,
)
from jaxkd.losses._chunks import in_chunks as in_chunks
from jaxkd.losses._class_relations import inter_class_relation as inter_class_relation
from jaxkd.losses._class_relations import intra_class_relation as intra_class_relation
from jaxkd.losses._class_relations import multi_level as multi_level
from jaxkd.losses._class_relations import standardize_logits as standardize_logits
from jaxkd.losses._contrastive import info_nce as info_nce
from jaxkd.losses._contrastive import noise_contrastive as noise_contrastive
from jaxkd.losses._divergences import jensen_shannon as jensen_shannon
from jaxkd.losses._divergences import reverse_kl as reverse_kl
from jaxkd.losses._divergences import skewed_kl as skewed_kl
from jaxkd.losses._example_relations import (
    correlation_congruence as correlation_congruence,
)
from jaxkd.losses._example_relations import (
    correlation_congruence_kernel as correlation_congruence_kernel,
)
from jaxkd.losses._example_relations import (
    probabilistic_transfer as probabilistic_transfer,
)
from jaxkd.losses._example_relations import (
    similarity_preserving as similarity_preserving,
)
from jaxkd.losses._feature_maps import activation_boundary as activation_boundary
from jaxkd.losses._feature_maps import hint as hint
from jaxkd.losses._feature_maps import (
    variational_information as variational_information,
)
from jaxkd.losses._labeled import decoupled_kl as decoupled_kl
from jaxkd.losses._labeled import normalized_kl as normalized_kl
from jaxkd.losses._overhaul import overhaul as overhaul
from jaxkd.losses._relational import relational_angle as relational_angle
from jaxkd.losses._relational import relational_distance as relational_distance
from jaxkd.losses._review import review as review
from jaxkd.losses._self_supervised import (
    self_supervised_similarity as self_supervised_similarity,
)
from jaxkd.losses._soft_targets import logit_matching as logit_matching
from jaxkd.losses._soft_targets import mean_gap as mean_gap
from jaxkd.losses._soft_targets import soft_target_kl as soft_target_kl
from jaxkd.losses._soft_targets import (
    transformed_teacher_matching as transformed_teacher_matching,
)
from jaxkd.losses._soft_targets import (
    weighted_transformed_teacher_matching as weighted_transformed_teacher_matching,
)
from jaxkd.losses._stage_flow import flow_of_solution as flow_of_solution
from jaxkd.losses._stage_flow import singular_value as singular_value
from jaxkd.losses._symmetries import Arguments as Arguments
from jaxkd.losses._symmetries import Declaration as Declaration
from jaxkd.losses._symmetries import Transformation as Transformation
from jaxkd.losses._top_logits import TopLogits as TopLogits
from jaxkd.losses._top_logits import remainder_logit as remainder_logit
from jaxkd.losses._top_logits import sparse_soft_target_kl as sparse_soft_target_kl
from jaxkd.losses._top_logits import top_logits as top_logits

# The order of the families in tables and pages.
_FAMILIES = (
    _soft_targets,
    _divergences,
    _labeled,
    _class_relations,
    _feature_maps,
    _overhaul,
    _review,
    _attention,
    _stage_flow,
    _example_relations,
    _relational,
    _self_supervised,
    _channel_relations,
    _contrastive,
)

INVARIANCES: tuple[Declaration, ...] = _symmetries.declarations(*_FAMILIES)
"""The symmetries of each loss; ``proofs_checks`` verifies them in both directions."""
