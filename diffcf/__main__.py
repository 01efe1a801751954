"""``python -m diffcf``."""

import sys

from diffcf.cli import main

sys.exit(main())
