from reference import class_relations as reference

from jaxkd import losses
from zoo._case import Case
from zoo._logits import WIDE, cases

CASES: tuple[Case, ...] = (
    *cases(
        losses.inter_class_relation,
        reference.inter_class_relation,
        settings={"temperature": 1.0},
    ),
    *cases(
        losses.intra_class_relation,
        reference.intra_class_relation,
        settings={"temperature": 1.0},
        arguments=WIDE,
    ),
    *cases(
        losses.multi_level,
        reference.multi_level,
        settings={"temperatures": (1.0, 10.0)},
        arguments=WIDE,
    ),
)
