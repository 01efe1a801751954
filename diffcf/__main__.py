"""``python -m diffcf``."""

import sys

from diffcf.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
