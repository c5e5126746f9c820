"""`python -m data.download`."""

import sys

from data.download.command import main

if __name__ == "__main__":
    sys.exit(main())
