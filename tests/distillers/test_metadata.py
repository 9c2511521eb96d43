"""Whether methods need a teacher of the student's classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import distillers
from jaxkd._errors import InvalidInputError
from jaxkd.models import ModelOutput

ROWS, CLASSES, OTHER_CLASSES = 10, 5, 7
LABELS = np.arange(40) % CLASSES


def output(classes):
    """An abstract output of stages and widths that every method can take."""
    shapes = ((8, 8, 4), (8, 8, 4), (4, 4, 8), (2, 2, 16))
    stages = tuple(jax.ShapeDtypeStruct((ROWS, *s), jnp.float32) for s in shapes)
    logits = jax.ShapeDtypeStruct((ROWS, classes), jnp.float32)
    embedding = jax.ShapeDtypeStruct((ROWS, 16), jnp.float32)
    return ModelOutput(logits, embedding, stages, stages)


def losses_of(distiller):
    """Trace all stages of a method with a teacher of other classes; return shapes."""
    classifier = distillers.Classifier(
        jnp.zeros((16, OTHER_CLASSES)), jnp.zeros(OTHER_CLASSES)
    )
    spec = distillers.Spec(
        output(CLASSES), output(OTHER_CLASSES), CLASSES, LABELS, classifier
    )
    if distiller.student is not None:
        distiller.student(nnx.Module(), spec, nnx.Rngs(0))

    def losses(images, rows, student, teacher):
        params, extra = distiller.init(nnx.Rngs(0), spec)
        batch = distillers.Batch(
            *(images, rows, rows, jax.random.key(0)),
            step=jnp.int32(0),
            steps_per_epoch=4,
        )
        values = []
        if distiller.pretraining is not None:
            value, extra, _ = distiller.pretraining.loss(
                params, extra, student, teacher, batch
            )
            values.append(value)
            params, extra = distiller.pretraining.finish(params, extra)
        return [*values, distiller.loss(params, extra, student, teacher, batch)[0]]

    images = jax.ShapeDtypeStruct((ROWS, 8, 8, 1), jnp.uint8)
    rows = jax.ShapeDtypeStruct((ROWS,), jnp.int32)
    return jax.eval_shape(losses, images, rows, spec.student, spec.teacher)


@pytest.mark.parametrize("method", distillers.METHODS, ids=lambda method: method.part)
def test_a_method_takes_a_teacher_of_other_classes_unless_it_says_otherwise(method):
    if method.same_classes:
        with pytest.raises(InvalidInputError, match="5 classes and the teacher 7"):
            losses_of(method.build())
        return
    for value in losses_of(method.build()):
        assert value.shape in ((ROWS,), ())
