"""One mutant again, as a failure names it: ``python -m tests.support.fuzzing KIND SEED [FOLDER]``."""

import sys
import tempfile
from pathlib import Path

from tests.support.fuzzing.worker import show

folder = Path(sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp(prefix="fuzz-"))
sys.exit(show(folder, sys.argv[1], int(sys.argv[2])))
