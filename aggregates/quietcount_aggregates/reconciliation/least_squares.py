"""Weighted least squares whose result is the same on every machine, to the last bit.

A matrix product of a numeric library may add in another order on another processor. Here each step is one operation on
whole arrays, element by element, in an order that is written down: IEEE 754 fixes the result of each.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Integers", "fit"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_PRIME: Final = 2**31 - 1
"""Ranks are found in whole numbers modulo this prime: exactly, and without a threshold for what is zero."""


def fit(design: Integers, variances: Floats) -> Floats:
    """Return the matrix that takes observations to the least-squares solution; of many, to the shortest one.

    `design` (observations x unknowns, whole numbers) says what is observed, `variances` (observations, above 0) how
    precisely. The result is unknowns x observations. Aitken (1936); what the observations do not tell apart gets equal
    shares, as with the inverse of Moore and Penrose.
    """
    basis = design[_independent_rows(design)]
    images = design @ basis.T  # whole numbers: exact in any order
    weights = 1 / variances
    normal = np.zeros((len(basis), len(basis)))
    for image, weight in zip(images.astype(np.float64), weights, strict=True):
        normal += weight * np.multiply.outer(image, image)
    solution = _solved(normal, images.T * weights)
    fitted = np.zeros((design.shape[1], design.shape[0]))
    for row, part in zip(basis.astype(np.float64), solution, strict=True):
        fitted += np.multiply.outer(row, part)
    return fitted


def _independent_rows(matrix: Integers) -> list[int]:
    """Return the first rows that span all the others."""
    rest: Any = matrix.T % _PRIME
    chosen: list[int] = []
    for column in range(rest.shape[1]):
        if len(chosen) == rest.shape[0]:
            break
        below = np.flatnonzero(rest[len(chosen) :, column])
        if not len(below):
            continue
        top = len(chosen)
        rest[[top, top + below[0]]] = rest[[top + below[0], top]]
        rest[top] = rest[top] * pow(int(rest[top, column]), -1, _PRIME) % _PRIME
        factors = rest[top + 1 :, column].copy()
        rest[top + 1 :] = (rest[top + 1 :] - factors[:, None] * rest[top]) % _PRIME
        chosen.append(column)
    return chosen


def _solved(matrix: Floats, right: Floats) -> Floats:
    """Solve a symmetric positive definite system by elimination, which needs no pivots there; both stay as they are."""
    matrix, solution = matrix.copy(), right.copy()
    for step in range(len(matrix)):
        factors = matrix[step + 1 :, step] / matrix[step, step]
        matrix[step + 1 :] -= np.multiply.outer(factors, matrix[step])
        solution[step + 1 :] -= np.multiply.outer(factors, solution[step])
    for step in reversed(range(len(matrix))):
        solution[step] /= matrix[step, step]
        solution[:step] -= np.multiply.outer(matrix[:step, step], solution[step])
    return solution
