"""`python -m summarybench`, and the console script `summarybench`."""

from __future__ import annotations

import sys

from summarybench.commands.command_line import main

if __name__ == "__main__":
    sys.exit(main())
