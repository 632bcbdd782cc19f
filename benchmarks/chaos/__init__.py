"""Tiny runs that are broken at random and started again: ``python -m benchmarks.chaos`` (``make chaos``).

Every round breaks one thing in the middle of one command, at a moment that its seed decides: the process is killed, the
disk is full, media or the judge are gone, a file is damaged, a second process comes in, or nothing can be written. Then
what lies outside is mended and the same command is started again. In the end the weights, metrics, rollouts,
evaluations, rows or frames must be byte for byte those of an undisturbed run; and whatever stopped on the way must have
said so in a sentence, with exit status 2 or 3 and no traceback.

Processes and signals are real. To be quick, a start of ``evr1`` is a fork of a process that has imported everything.
"""
