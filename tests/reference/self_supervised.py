"""Similarities of views transcribed from the definition; shares no code with jaxkd."""

import scipy.special
from reference.example_relations import cosines


def self_supervised_similarity(
    student_views, student_originals, teacher_views, teacher_originals, temperature=0.5
):
    q = scipy.special.softmax(
        cosines(student_views, student_originals) / temperature, 1
    )
    p = scipy.special.softmax(
        cosines(teacher_views, teacher_originals) / temperature, 1
    )
    return temperature**2 * scipy.special.rel_entr(p, q).sum(axis=1)
