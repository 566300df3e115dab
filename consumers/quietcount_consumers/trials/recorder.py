"""A recorder: it notes what the noise is asked to hide, and then lets the real mechanism draw.

So the audit sees exact values without any path in the service that leaves the noise out. The values are made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quietcount_aggregates.noise import NoiseMechanism

__all__ = ["Draw", "Recorder"]


@dataclass(frozen=True, slots=True)
class Draw:
    """One call of the mechanism: what it was handed, and what it returned, one whole number a cell."""

    exact: tuple[int, ...]
    drawn: tuple[int, ...]
    scale: float
    sensitivity: int
    epsilon: float


class Recorder:
    """A mechanism that does what another one does, and keeps each draw in `draws`, the oldest first."""

    def __init__(self, mechanism: NoiseMechanism) -> None:
        self._mechanism = mechanism
        self.draws: list[Draw] = []

    @property
    def name(self) -> str:
        return self._mechanism.name

    def scale(self, *, cells: int, sensitivity: int, epsilon: float) -> float:
        """Return what the mechanism returns."""
        return self._mechanism.scale(cells=cells, sensitivity=sensitivity, epsilon=epsilon)

    def draw(self, exact: Sequence[int], *, scale: float, sensitivity: int, epsilon: float) -> list[int]:
        """Return what the mechanism draws, and keep it with what it was handed."""
        drawn = self._mechanism.draw(exact, scale=scale, sensitivity=sensitivity, epsilon=epsilon)
        self.draws.append(Draw(tuple(exact), tuple(drawn), scale, sensitivity, epsilon))
        return drawn
