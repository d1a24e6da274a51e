"""Commands one after another, stopping at the first that fails: ``chain JSON_LIST_OF_COMMANDS``."""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> None:
    """Run them."""
    for command in json.loads(sys.argv[1]):
        status = subprocess.run(command, check=False).returncode
        if status:
            sys.exit(status)


if __name__ == "__main__":
    main()
