"""Symbolic proofs with SymPy, for all real logits and 2 to 4 classes."""

import importlib
from collections.abc import Callable
from typing import Any

from proofs_checks._evidence import Evidence, Verdict

CLASSES = (2, 3, 4)


class Symbols:
    """Student and teacher logits as real symbols.

    Attributes:
        z, v: Student and teacher logits.
        d: Their difference, ``z - v``.
        scale: The positive symbol 1/T.
    """

    def __init__(self, sympy: Any, classes: int) -> None:
        self.sympy = sympy
        self.z = sympy.symbols(f"z:{classes}", real=True)
        self.v = sympy.symbols(f"v:{classes}", real=True)
        self.d = [z - v for z, v in zip(self.z, self.v, strict=True)]
        self.scale = sympy.Symbol("epsilon", positive=True)

    def mean(self, x: Any) -> Any:
        """Return the mean over the classes."""
        return sum(x) / self.sympy.Integer(len(x))

    def variance(self, x: Any) -> Any:
        """Return the population variance over the classes."""
        return self.mean([value**2 for value in x]) - self.mean(x) ** 2

    def log_softmax(self, x: Any) -> list[Any]:
        """Return the log-softmax of the logits divided by T."""
        scaled = [self.scale * value for value in x]
        total = self.sympy.log(sum(self.sympy.exp(value) for value in scaled))
        return [value - total for value in scaled]

    def softmax(self, x: Any) -> list[Any]:
        """Return the softmax of the logits divided by T."""
        weights = [self.sympy.exp(self.scale * value) for value in x]
        return [weight / sum(weights) for weight in weights]

    def kl(self) -> Any:
        """Return KL(p || q) from the softened teacher to the softened student."""
        p, log_p, log_q = (
            self.softmax(self.v),
            self.log_softmax(self.v),
            self.log_softmax(self.z),
        )
        return sum(a * (b - c) for a, b, c in zip(p, log_p, log_q, strict=True))


def prove(
    text: str, residuals: Callable[[Symbols], list[Any]], *, must_fail: bool = False
) -> Evidence:
    """Return evidence that every residual simplifies to zero for all real logits.

    Args:
        text: The claim.
        residuals: Returns the expressions that must vanish.
        must_fail: Whether this is a control, whose expressions must not vanish.

    Returns:
        The evidence. Without SymPy the verdict is ``SKIPPED``.
    """
    try:
        sympy = importlib.import_module("sympy")
    except ImportError:
        detail = "SymPy is not installed"
        return Evidence(text, Verdict.SKIPPED, detail=detail, checked_by="symbolic")
    failed, count = [], 0
    for classes in CLASSES:
        symbols = Symbols(sympy, classes)
        for number, residual in enumerate(residuals(symbols)):
            count += 1
            if not _vanishes(symbols, residual):
                failed.append(f"C={classes}, expression {number}")
    if must_fail:
        verdict = Verdict.REFUTED if len(failed) == count else Verdict.NOT_REFUTED
    else:
        verdict = Verdict.FAILS if failed else Verdict.HOLDS
    return Evidence(
        text,
        verdict,
        cases=count,
        measured=float(len(failed)),
        bound=0.0,
        unit="expressions that are not identically zero",
        detail="C = 2, 3, 4; all real logits",
        worst={"first": failed[0]} if failed else {},
        checked_by="symbolic",
    )


def _vanishes(symbols: Symbols, expression: Any) -> bool:
    """Return whether an expression is identically zero.

    Exponentials of the logits are replaced by independent positive symbols, and
    logarithms of products by sums. Softmax expressions then become rational functions
    of symbols and of logarithms of sums. Such a function is zero if and only if its
    expanded numerator is.
    """
    sympy = symbols.sympy
    logits = (*symbols.z, *symbols.v)
    positive = sympy.symbols(f"x:{len(logits)}", positive=True)
    pairs = list(zip(logits, positive, strict=True))
    expression = expression.replace(
        lambda e: e.func == sympy.exp, lambda e: sympy.exp(sympy.expand(e.exp))
    )
    expression = expression.subs(
        {sympy.exp(symbols.scale * logit): x for logit, x in pairs}
    )
    expression = expression.replace(
        lambda e: e.func == sympy.log,
        lambda e: sympy.expand_log(
            sympy.log(sympy.factor(sympy.together(e.args[0]))), force=True
        ),
    )
    expression = expression.subs(
        {sympy.log(x): symbols.scale * logit for logit, x in pairs}
    )
    return sympy.expand(sympy.fraction(sympy.together(expression))[0]) == 0
