"""``python -m sklcae``."""

import sys

from sklcae._cli import main

sys.exit(main())
