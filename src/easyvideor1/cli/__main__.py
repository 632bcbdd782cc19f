"""``python -m easyvideor1.cli``: the command line where the ``evr1`` script is not on the path."""

from easyvideor1.cli import main

if __name__ == "__main__":
    main()
