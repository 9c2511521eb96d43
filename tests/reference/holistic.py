"""Holistic distillation transcribed in NumPy float64; shares no code with jaxkd.

One example and one negative at a time, so that it reads like the formulas.
"""

import numpy as np


def normalize(x):
    norm = np.sqrt(np.sum(np.square(x), axis=-1, keepdims=True))
    return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)


def nearest_neighbors(logits, k):
    z = np.asarray(logits, np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return most_similar(p / p.sum(axis=1, keepdims=True), k)


def most_similar(vectors, k):
    v = np.asarray(vectors, np.float64)
    lists = []
    for i, row in enumerate(v):
        similarity = [
            np.inf
            if i == j
            else row @ other / (np.linalg.norm(row) * np.linalg.norm(other))
            for j, other in enumerate(v)
        ]
        lists.append(np.argsort(-np.array(similarity), kind="stable")[:k])
    return np.array(lists)


def propagate(features, neighbors):
    return np.array([np.mean([features[j] for j in row], axis=0) for row in neighbors])


def embed(layer, x):
    return normalize(x @ layer["kernel"] + layer["bias"])


def encode(layer, embeddings, neighbors, hops=1):
    powers = [embeddings]
    for _ in range(hops):
        powers.append(propagate(powers[-1], neighbors))
    return normalize(np.concatenate(powers, axis=1) @ layer["kernel"] + layer["bias"])


def log_sum_exp(anchor, rows, temperature, weights):
    """log Σ_j w_j exp(a·M_j/τ) over the rows of positive weight; its gradient in a."""
    rows, weights = rows[weights > 0], weights[weights > 0]
    if len(rows) == 0:
        return -np.inf, np.zeros_like(anchor)
    scores = np.log(weights) + rows @ anchor / temperature
    peak = scores.max()
    terms = np.exp(scores - peak)
    return peak + np.log(terms.sum()), terms @ rows / terms.sum() / temperature


def info_nce(anchor, positive, rows, temperature, weights):
    negative, _ = log_sum_exp(anchor, rows, temperature, weights)
    attraction = anchor @ positive / temperature
    return np.logaddexp(attraction, negative) - attraction


def all_weights(labels, row_labels, num_negatives):
    """[batch, rows]: K/N₋ for rows of other classes, 0 for the others."""
    other = np.asarray(row_labels)[None, :] != np.asarray(labels)[:, None]
    return num_negatives * other / np.maximum(other.sum(axis=1, keepdims=True), 1)


def forward(heads, student, teacher, k, hops=1, graph_from="predictions"):
    """Embeddings and graph outputs of both networks, given (logits, features)."""
    by_predictions = graph_from == "predictions"
    outputs = {}
    for side, (logits, features) in (("student", student), ("teacher", teacher)):
        h = embed(heads[f"{side}_embedding"]["linear"], features)
        by_logits, by_features = nearest_neighbors(logits, k), most_similar(features, k)
        neighbors = by_logits if by_predictions else by_features
        g = encode(heads[f"{side}_encoder"]["linear"], h, neighbors, hops)
        outputs[side] = h, g
    return outputs


def positives(outputs, bank, rows, smoothing):
    """What the four anchors are to meet; constants for the gradient."""
    (_, g_s), (_, g_t) = outputs["student"], outputs["teacher"]
    old_s, old_t = bank[0][rows], bank[1][rows]
    return {
        "student_embedding": old_t,
        "teacher_embedding": old_s,
        "student_graph": normalize(smoothing * old_t + (1 - smoothing) * g_t),
        "teacher_graph": normalize(smoothing * old_s + (1 - smoothing) * g_s),
    }


def terms(outputs, meets, bank, weights, temperature, negatives_from="own"):
    """The four contrastive terms of every example."""
    (h_s, g_s), (h_t, g_t) = outputs["student"], outputs["teacher"]
    own, cross = (0, 1) if negatives_from == "own" else (1, 0)
    anchors = {
        "student_embedding": (h_s, bank[own]),
        "teacher_embedding": (h_t, bank[cross]),
        "student_graph": (g_s, bank[own]),
        "teacher_graph": (g_t, bank[cross]),
    }
    return {
        name: np.array(
            [
                info_nce(a, p, table, temperature, w)
                for a, p, w in zip(anchor, meets[name], weights, strict=True)
            ]
        )
        for name, (anchor, table) in anchors.items()
    }


def update(bank, rows, outputs, momentum):
    new = []
    for table, side in zip(bank, ("student", "teacher"), strict=True):
        table = np.array(table)
        for i, row in enumerate(rows):
            embedding = outputs[side][0][i]
            table[row] = normalize(momentum * table[row] + (1 - momentum) * embedding)
        new.append(table)
    return tuple(new)
