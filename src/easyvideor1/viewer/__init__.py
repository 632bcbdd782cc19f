"""The site of ``evr1 view``: pages about runs and evaluations, also while they are written.

``library`` finds runs and evaluations, ``app`` puts the site together, ``guard`` decides who may ask, and every file of
``pages`` is one part of the site. Nothing here writes into a run.
"""
