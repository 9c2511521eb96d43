"""The published gather form of the holistic objective, and networks, in PyTorch.

This is written from the formulas, for comparison only. Each step gathers
``[batch, K, dim]`` rows of both banks, as the published system does.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURE, MOMENTUM, SMOOTHING, NEIGHBORS = 0.07, 0.9, 0.75, 8


def normalize(x: Tensor) -> Tensor:
    """Scale rows to unit length."""
    return functional.normalize(x, dim=1)


class HolisticObjective(nn.Module):
    """Projection heads, both banks, and the sum of the four contrastive terms.

    Args:
        rows: Rows of each bank.
        dim: Width of the embeddings.
        student_features: Width of the student's features.
        teacher_features: Width of the teacher's.
    """

    def __init__(
        self, rows: int, dim: int, student_features: int, teacher_features: int
    ):
        super().__init__()
        self.bank_s, self.bank_t = (normalize(torch.randn(rows, dim)) for _ in range(2))
        self.embed_s = nn.Linear(student_features, dim)
        self.embed_t = nn.Linear(teacher_features, dim)
        self.encode_s, self.encode_t = (nn.Linear(2 * dim, dim) for _ in range(2))

    def forward(
        self,
        student: tuple[Tensor, Tensor],
        teacher: tuple[Tensor, Tensor],
        rows: Tensor,
        negatives: Tensor,
    ) -> Tensor:
        """Compute the loss from ``(features, logits)`` of both networks.

        The embeddings are kept for :meth:`remember`, which updates the banks.
        """
        h_s, h_t = (
            normalize(self.embed_s(student[0])),
            normalize(self.embed_t(teacher[0])),
        )
        g_s = _encode(h_s, student[1], self.encode_s)
        g_t = _encode(h_t, teacher[1], self.encode_t)
        old_s, old_t = self.bank_s[rows], self.bank_t[rows]
        smooth_s = normalize(SMOOTHING * old_s + (1 - SMOOTHING) * g_s.detach())
        smooth_t = normalize(SMOOTHING * old_t + (1 - SMOOTHING) * g_t.detach())
        negatives_s = _gather(self.bank_s, negatives)
        negatives_t = _gather(self.bank_t, negatives)
        self._waiting = rows, (old_s, h_s.detach()), (old_t, h_t.detach())
        return (
            _contrast(h_s, old_t, negatives_s)
            + _contrast(h_t, old_s, negatives_t)
            + _contrast(g_s, smooth_t, negatives_s)
            + _contrast(g_t, smooth_s, negatives_t)
        )

    @torch.no_grad()
    def remember(self) -> None:
        """Move the batch's rows of both banks toward its embeddings."""
        rows, *pairs = self._waiting
        for bank, (old, new) in zip((self.bank_s, self.bank_t), pairs, strict=True):
            bank.index_copy_(0, rows, normalize(MOMENTUM * old + (1 - MOMENTUM) * new))


def _encode(embeddings: Tensor, logits: Tensor, layer: nn.Module) -> Tensor:
    predictions = normalize(torch.softmax(logits, dim=1))
    near = (predictions @ predictions.T).topk(NEIGHBORS, dim=1).indices
    hop = embeddings[near].mean(dim=1)
    return normalize(layer(torch.cat([embeddings, hop], dim=1)))


def _contrast(anchor: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    attraction = (anchor * positive).sum(dim=1, keepdim=True)
    repulsion = torch.bmm(negatives, anchor.unsqueeze(2)).squeeze(2)
    scores = torch.cat([attraction, repulsion], dim=1) / TEMPERATURE
    return functional.cross_entropy(scores, torch.zeros(len(anchor), dtype=torch.long))


def _gather(bank: Tensor, index: Tensor) -> Tensor:
    return bank.index_select(0, index.view(-1)).view(*index.shape, bank.shape[1])


class NegativesOnHost:
    """Draw rows of other classes on the host, one example at a time, as published.

    Args:
        labels: Classes of all rows.
        count: Number of negatives per example.
    """

    def __init__(self, labels: np.ndarray, count: int):
        self._labels, self._count = labels, count
        self._others = {c: np.flatnonzero(labels != c) for c in np.unique(labels)}

    def __call__(self, rows: np.ndarray) -> Tensor:
        """Draw row numbers of shape ``[batch, count]``."""
        pools = (self._others[self._labels[row]] for row in rows)
        choose = np.random.choice
        drawn = [choose(pool, self._count, replace=False) for pool in pools]
        return torch.from_numpy(np.stack(drawn))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.skip = nn.Identity()
        if stride != 1 or before != after:
            self.skip = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.skip(x))


class CifarResNet(nn.Module):
    """The residual network of :class:`jaxkd.models.CifarResNet`."""

    def __init__(self, depth: int, widths: Sequence[int], classes: int, channels: int):
        super().__init__()
        stem, *stages = widths
        layers: list[nn.Module] = [
            nn.Conv2d(channels, stem, 3, padding=1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        ]
        before = stem
        for number, after in enumerate(stages):
            for block in range((depth - 2) // 6):
                stride = 2 if number and not block else 1
                layers.append(_Block(before, after, stride))
                before = after
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (features, logits)."""
        features = self.body(images).mean(dim=(2, 3))
        return features, self.classifier(features)
