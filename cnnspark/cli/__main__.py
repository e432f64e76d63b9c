"""``python -m cnnspark.cli``."""

import sys

from cnnspark.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
