"""How rows of releases become questions, and how some of these are scored.

Any benchmark may use ``shapes``, ``mixed`` (rows of several kinds), ``captions``, ``moments`` (ranked windows),
``tubes`` (counted in seconds), ``tube_frames`` (counted in frames) and ``streaming``. Each of the others belongs to one
benchmark: ``grouped_scores`` to Video-MME-v2, ``indoor_space`` to VSI-Bench, ``latent_states`` and ``operations`` to
VideoReasonBench, ``lectures`` to Video-MMMU, ``subjects`` to it and MMVU, and ``mlvu_tasks``, ``mvbench_tasks`` and
``tempcompass_tasks`` to those that they are named after.
"""
