"""`python -m videoclip`, and so `torchrun -m videoclip`."""

import sys

from videoclip.cli import main

if __name__ == "__main__":
    sys.exit(main())
