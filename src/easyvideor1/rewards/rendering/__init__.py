"""SVG and HTML compared by their pictures: ``browser`` makes them, ``compare`` says how alike they are."""

from easyvideor1.rewards.rendering.browser import find_chromium
from easyvideor1.rewards.rendering.compare import RENDERED, Renderer

__all__ = ["RENDERED", "Renderer", "find_chromium"]
