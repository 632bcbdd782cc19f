"""The task types: one file for each family, which reads an answer, reads a reference and compares the two.

Each file ends with its ``Rule``; the table of all rules is ``easyvideor1.rewards.rules``. ``math_worker`` is the script
of the process in which ``math`` compares expressions.
"""
