"""A figure that notebooks show by themselves."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """Matplotlib's figure, made without pyplot, so that none is kept in memory or shown twice.

    Notebooks know how to show one only after pyplot has been imported; this one says it itself.
    """

    def _repr_png_(self) -> bytes:
        return self.png()

    def png(self, dpi: float = 80) -> bytes:
        """It as PNG, cut to what is drawn."""
        buffer = io.BytesIO()
        self.savefig(buffer, format='png', dpi=dpi, bbox_inches='tight')
        return buffer.getvalue()
