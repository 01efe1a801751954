"""``python -m diffcf``."""

import sys

from diffcf.cli import main

if __name__ == "__main__":
    sys.exit(main())
