"""``python -m empu`` is the command ``empu``."""

from empu.cli.entry import main

if __name__ == "__main__":
    main()
