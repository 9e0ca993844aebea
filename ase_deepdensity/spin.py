"""Spin densities and what networks speak of: total and magnetisation."""

from __future__ import annotations

import numpy as np


def components(x_s: np.ndarray) -> np.ndarray:
    """Spin components, (1 or 2, ...), as the total and, where there are two, the magnetisation; a copy."""
    return x_s.copy() if len(x_s) == 1 else np.stack([x_s[0] + x_s[1], x_s[0] - x_s[1]])


def spins(x_s: np.ndarray, nspins: int) -> np.ndarray:
    """The reverse of :func:`components`, (nspins, ...); a magnetisation that is not given is zero."""
    if nspins == 1:
        return x_s[:1]
    magnetisation = x_s[1] if len(x_s) == 2 else 0.0
    return 0.5 * np.stack([x_s[0] + magnetisation, x_s[0] - magnetisation])


def component_weights(v_s: np.ndarray) -> np.ndarray:
    """What total and magnetisation are multiplied with in Σ_s v_s x_s = (v↑+v↓)/2 · total + (v↑−v↓)/2 · m."""
    return v_s if len(v_s) == 1 else 0.5 * components(v_s)


def of_spin(x_s: np.ndarray, spin: int | None) -> np.ndarray:
    """One component, or the sum of all (None)."""
    return x_s.sum(axis=0) if spin is None else x_s[spin]
