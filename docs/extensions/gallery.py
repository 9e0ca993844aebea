"""The directive ``gallery``: notebooks by their titles and last pictures, from what their cells have put out."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Gallery(SphinxDirective):
    """Each line names a notebook, without its ending, from the page's folder."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        folder = Path(self.get_source_info()[0]).parent
        cards = []
        for name in self.content:
            path = folder / f'{name}.ipynb'
            self.env.note_dependency(str(path))
            cards.append(card(name, json.loads(path.read_text())))
        return [nodes.raw('', f'<div class="gallery">{"".join(cards)}</div>', format='html')]


def card(name: str, notebook: dict[str, Any]) -> str:
    """HTML: the picture above the title, both a link to the page."""
    title = next(line for line in ''.join(notebook['cells'][0]['source']).splitlines() if line.startswith('# '))[2:]
    pictures = [
        output['data']['image/png']
        for cell in notebook['cells']
        for output in cell.get('outputs', ())
        if 'image/png' in output.get('data', ())
    ]
    image = f'<img alt="" src="data:image/png;base64,{pictures[-1].strip()}">'
    return f'<a href="{name}.html">{image}<span>{escape(title)}</span></a>'


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive('gallery', Gallery)
    return {'parallel_read_safe': True}
