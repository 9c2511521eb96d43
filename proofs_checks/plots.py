"""Plots of a certificate, drawn from its evidence and from a few cases."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxkd import losses
from proofs_checks import _plain
from proofs_checks.certificate import Certificate
from proofs_checks.t05_first_order import by_cumulants
from proofs_checks.t07_f_divergences import SCALED, at_temperature
from proofs_checks.t12_info_nce import estimates

_GRAY = "0.45"

Picture = Callable[[Axes, Certificate], None]
Corner = Literal[
    "upper right", "upper left", "lower right", "lower left", "center right"
]
Place = Corner | tuple[float, float]  # corner of the legend, or its lower left point


def draw(certificate: Certificate, folder: Path) -> list[Path]:
    """Draw the plots of the statements in a certificate.

    Args:
        certificate: Result of :func:`proofs_checks.verify`.
        folder: Existing folder for the files.

    Returns:
        The paths of the files.
    """
    pictures: dict[str, tuple[str, Picture, Place]] = {
        "T3": ("band", _band, "upper right"),
        "T4": ("exact_form", _exact_form, "upper left"),
        "T5": ("expansion", _expansion, "upper right"),
        "T7": ("divergences", _divergences, "upper right"),
        "T9": ("mean_logit", _mean_logit, "center right"),
        "T10": ("trajectories", _trajectories, (0.42, 0.35)),
        "T12": ("information", _information, "lower right"),
        "T15": ("top_logits", _top_logits, "lower left"),
    }
    files = []
    done = {result.check.name for result in certificate.results}
    with style.context("tableau-colorblind10"), jax.enable_x64(True):
        for name, (stem, picture, legend) in pictures.items():
            if name not in done:
                continue
            figure = Figure(figsize=(8, 5), layout="constrained")
            axes = figure.subplots()
            picture(axes, certificate)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
            axes.legend(frameon=False, fontsize=9, loc=legend)
            files.append(folder / f"{stem}.png")
            figure.savefig(files[-1], dpi=150)
    return files


def _logits(seed: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, 2, (2, classes))
    return student, teacher


def _loss(student, teacher, temperatures) -> np.ndarray:
    """Compute the loss of one pair of logits at each temperature, in float64."""

    def at(temperature):
        return losses.soft_target_kl(student, teacher, temperature=temperature)

    return np.asarray(jax.jit(jax.vmap(at))(jnp.asarray(temperatures)))


def _band(axes: Axes, certificate: Certificate) -> None:
    student, teacher = _logits(certificate.settings.seed)
    reach = max(np.ptp(student), np.ptp(teacher))
    temperatures = np.geomspace(0.7, 1e3, 300)
    r = reach / temperatures
    label = r"$e^{\mp R/T}$"
    axes.fill_between(
        temperatures, np.exp(-r), np.exp(r), alpha=0.15, lw=0, label=label
    )
    classes = len(student)
    sharp = [classes / (1 + (classes - 1) * np.exp(sign * r)) for sign in (1, -1)]
    label = f"sharp form, C = {classes}"
    axes.fill_between(temperatures, *sharp, alpha=0.3, lw=0, label=label)

    def ratio(z, v):
        return _loss(z, v, temperatures) / (0.5 * (z - v).var())

    label = f"random logits, C = {classes}"
    axes.plot(temperatures, ratio(student, teacher), lw=2.5, label=label)
    # One class apart from many others: this family reaches the bounds of the band.
    for sign, line in ((1, "-"), (-1, "--")):
        extreme = np.zeros(10_000)
        extreme[0] = sign * reach
        label = f"one class {'above' if sign > 0 else 'below'} 9,999 others"
        curve = ratio(0.999 * extreme, extreme)
        axes.plot(temperatures, curve, ls=line, lw=1.8, color="C3", label=label)
    axes.axhline(1, color=_GRAY, ls="--", lw=1)
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(1 / 300, 300),
        xlabel="temperature T",
        ylabel=r"$L_T\ /\ \frac{1}{2}\mathrm{var}(d)$",
        title="The loss stays within its band around half the variance (T3)",
    )


def _exact_form(axes: Axes, certificate: Certificate) -> None:
    rng = np.random.default_rng(certificate.settings.seed)
    logits = rng.normal(0, 3, (2, 200, 10)).astype(np.float32)
    temperatures = np.geomspace(0.05, 1e8, 80)

    def errors(loss):
        @jax.jit
        def values(student, teacher, temperature):
            row = jax.vmap(lambda z, v: loss(z, v, temperature=temperature))
            return row(student, teacher)

        found = []
        for temperature in temperatures.astype(np.float32):
            exact = exactly(*logits.astype(np.float64), np.float64(temperature))
            value = np.asarray(values(*logits, temperature), np.float64)
            found.append(np.median(np.abs(value / np.asarray(exact) - 1)))
        return np.maximum(found, 1e-9)

    @jax.jit
    def exactly(student, teacher, temperature):
        return losses.soft_target_kl(student, teacher, temperature=temperature)

    axes.plot(
        temperatures, errors(_plain.soft_target_kl), label=r"$T^2\,$KL by log-softmax"
    )
    axes.plot(
        temperatures, errors(losses.soft_target_kl), lw=2.5, label="jaxkd, exact form"
    )
    eps = float(np.finfo(np.float32).eps)
    axes.axhline(eps, color=_GRAY, ls="--", lw=1, label="float32 epsilon")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="temperature T",
        ylabel="median relative error in float32",
        title="At high temperature the direct formula loses all digits",
    )


def _expansion(axes: Axes, certificate: Certificate) -> None:
    student, teacher = _logits(certificate.settings.seed)
    coefficients = np.asarray(by_cumulants(student, teacher))
    temperatures = np.geomspace(3, 3e3, 100)
    loss = _loss(student, teacher, temperatures)
    partial = np.zeros_like(loss)
    for order, coefficient in enumerate(coefficients):
        partial = partial + coefficient / temperatures**order
        label = "minus " + ("the limit" if order == 0 else f"orders 0 to {order}")
        axes.plot(temperatures, np.abs(loss - partial), lw=2, label=label)
        slope = np.abs(loss - partial)[-1] * (temperatures[-1] / temperatures) ** (
            order + 1
        )
        axes.plot(temperatures, slope, color=_GRAY, ls=":", lw=1)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="temperature T",
        ylabel=r"$|L_T - $ expansion$|$",
        title="Each term of the expansion in 1/T removes one order of the error (T5)",
    )


def _divergences(axes: Axes, certificate: Certificate) -> None:
    student, teacher = _logits(certificate.settings.seed)
    half = 0.5 * (student - teacher).var()
    temperatures = np.geomspace(1, 3e3, 120)
    values = np.stack(
        [
            np.asarray(at_temperature(student[None], teacher[None], t))
            for t in temperatures
        ]
    )[..., 0]
    for name, curve in zip([*SCALED, "total variation"], values.T, strict=True):
        dotted = ":" if name == "total variation" else "-"
        axes.plot(temperatures, curve / half, lw=2, ls=dotted, label=name)
    axes.axhline(1, color=_GRAY, ls="--", lw=1)
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(0.05, 20),
        xlabel="temperature T",
        ylabel=r"$T^2 D\ /\ \frac{1}{2}\mathrm{var}(d)$",
        title="All smooth f-divergences have the same limit (T7)",
    )


def _series(certificate: Certificate, name: str) -> dict[str, np.ndarray]:
    (result,) = (r for r in certificate.results if r.check.name == name)
    series: dict[str, np.ndarray] = {}
    for evidence in result.evidence:
        series |= evidence.series
    return series


def _curves(axes: Axes, series: dict[str, np.ndarray], floor: float) -> None:
    styles = ("-", "--", ":")
    for number, (label, values) in enumerate(series.items()):
        steps = np.arange(1, len(values) + 1)
        axes.plot(
            steps,
            np.maximum(values, floor),
            ls=styles[number // 5 % len(styles)],
            lw=1.8,
            label=label,
        )


def _mean_logit(axes: Axes, certificate: Certificate) -> None:
    _curves(axes, _series(certificate, "T9"), floor=1e-18)
    axes.set(
        yscale="log",
        xlabel="step",
        ylabel="average |mean logit|",
        title="Mean logit under a shift-invariant loss, by optimizer (T9)",
    )


def _trajectories(axes: Axes, certificate: Certificate) -> None:
    _curves(axes, _series(certificate, "T10"), floor=1e-18)
    axes.set(
        yscale="log",
        xlabel="step",
        ylabel="largest difference of a parameter",
        title="KD at infinite temperature and logits matching (T10)",
    )


def _information(axes: Axes, certificate: Certificate) -> None:
    found, _ = estimates(certificate.settings)
    for number, negatives in enumerate(sorted({e.negatives for e in found})):
        some = [e for e in found if e.negatives == negatives]
        information = [e.information for e in some]
        means, errors = [e.mean for e in some], [5 * e.error for e in some]
        color = f"C{number}"
        label = f"K = {negatives}"
        axes.errorbar(
            information, means, errors, marker="o", ms=4, color=color, label=label
        )
        axes.axhline(math.log(negatives + 1), color=color, ls=":", lw=1)
    limit = [e.information for e in found]
    axes.plot(sorted(limit), sorted(limit), color=_GRAY, ls="--", lw=1, label="I(X;Y)")
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(0.05, 20),
        xlabel="mutual information I (nats)",
        ylabel="log(K+1) - mean loss (nats), ± 5 standard errors",
        title="InfoNCE bounds mutual information up to log(K+1) (T12)",
    )


def _top_logits(axes: Axes, certificate: Certificate) -> None:
    series = _series(certificate, "T15")
    counts = series.pop("k")
    for (label, curve), (color, line) in zip(
        series.items(),
        [("C0", "-"), ("C0", "--"), ("C1", "-"), ("C1", "--"), ("C1", ":")],
        strict=True,
    ):
        axes.plot(counts, curve, color=color, ls=line, lw=2, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="number of logits k",
        ylabel="loss, or sum over the gradient",
        title="What the top k of 32,000 logits leave out, and its bounds (T15)",
    )
