"""``python -m easyvideor1.cli`` is ``evr1``."""

from easyvideor1.cli import main

main()
