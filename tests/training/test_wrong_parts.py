"""Networks with too few classes, and arguments of another kind, are refused."""

import optax
import pytest
from flax import nnx
from support import build_mlp, make_dataset

from jaxkd import distillers, models, training
from jaxkd._errors import InvalidInputError, InvalidTypeError

pytestmark = pytest.mark.usefixtures("quickly_compiled")

DATASET = make_dataset(rows=8, test_rows=4, size=2)  # of 4 classes


def build(classes):
    return lambda rngs: models.MLP(4, (3,), num_classes=classes, rngs=rngs)


def compiled(**changed):
    parts = {
        "build": build_mlp(size=2),
        "dataset": DATASET,
        "distiller": distillers.cross_entropy(),
        "optimizer": optax.sgd(0.1),
        "batch_size": 4,
    }
    return training.compile_program(**(parts | changed))


def test_networks_with_fewer_classes_than_the_labels_are_refused():
    with pytest.raises(InvalidInputError, match=r"student has 3 logits.* 4 classes"):
        compiled(build=build(3))
    frozen = training.freeze(build(3)(nnx.Rngs(0)))
    with pytest.raises(InvalidInputError, match=r"network has 3 logits.* 4 classes"):
        training.evaluate(frozen, DATASET.test)


def test_networks_with_more_classes_than_the_labels_are_accepted():
    compiled(build=build(5))
    frozen = training.freeze(build(5)(nnx.Rngs(0)))
    assert training.evaluate(frozen, DATASET.test).num_examples == 4


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "name, value, says",
    [
        ("dataset", DATASET.train, r"ImageDataset.*data\.load.*got Split"),
        ("dataset", "mnist", r"ImageDataset.*got str"),
        ("distiller", None, r"Distiller.*recipe.*got NoneType"),
        ("distiller", distillers.cross_entropy, r"Distiller.*got cross_entropy"),
        ("optimizer", "sgd", r"GradientTransformation.*adam.*got str"),
        ("optimizer", optax.sgd, r"GradientTransformation.*got sgd"),
    ],
)
def test_parts_of_another_kind_are_refused(name, value, says):
    with pytest.raises(InvalidTypeError, match=f"^{name} must be .*{says}"):
        compiled(**{name: value})


@pytest.mark.usefixtures("unchecked")
def test_fit_and_evaluate_refuse_what_they_cannot_run():
    program = compiled()
    with pytest.raises(InvalidTypeError, match=r"program must be .*got MLP"):
        training.fit(build(4)(nnx.Rngs(0)), None, epochs=1)
    for loop in (program, None):
        kind = type(loop).__name__
        with pytest.raises(InvalidTypeError, match=f"loop must be a state.*{kind}"):
            training.fit(program, loop, epochs=1)
    module = build(4)(nnx.Rngs(0))
    with pytest.raises(InvalidTypeError, match=r"must be frozen, got MLP. Pass"):
        training.evaluate(module, DATASET.test)
    with pytest.raises(InvalidTypeError, match=r"dataset\.test, got ImageDataset"):
        training.evaluate(training.freeze(module), DATASET)
