"""The parts of the site, in the order of the navigation. Each has a ``TITLE``, a ``PATH`` and ``routes(site)``."""

from easyvideor1.viewer.pages import data, evaluations, rollouts, runs

PARTS = (runs, rollouts, evaluations, data)
