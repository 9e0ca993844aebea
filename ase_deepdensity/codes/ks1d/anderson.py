"""Anderson's mixing: the next input of a self-consistent cycle from the last inputs and residuals."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np


class Anderson:
    """x → x̄ + P r̄, where x̄, r̄ are the combination of earlier steps with the smallest residual ‖r̄‖₂.

    doi:10.1145/321296.321305.

    Parameters
    ----------
    precondition
        P, a linear map that is near the inverse of (minus) the residual's derivative.
    history
        Number of earlier steps that are remembered.
    """

    def __init__(self, precondition: Callable[[np.ndarray], np.ndarray], history: int = 20):
        self.precondition = precondition
        self._steps: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=history)

    def __call__(self, x_g: np.ndarray, residual_g: np.ndarray) -> np.ndarray:
        """The next input, from the last one and its residual; real arrays of one axis."""
        best_g, smallest_g = x_g, residual_g
        if self._steps:
            dx_gi = np.stack([x_g - old_g for old_g, _ in self._steps], axis=1)
            dr_gi = np.stack([residual_g - old_g for _, old_g in self._steps], axis=1)
            theta_i = np.linalg.lstsq(dr_gi, residual_g, rcond=1e-14)[0]
            best_g, smallest_g = x_g - dx_gi @ theta_i, residual_g - dr_gi @ theta_i
        self._steps.append((x_g, residual_g))
        return best_g + self.precondition(smallest_g)
