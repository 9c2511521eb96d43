"""Entry point of ``python -m proofs_checks``."""

import sys

from proofs_checks._main import main

sys.exit(main())
