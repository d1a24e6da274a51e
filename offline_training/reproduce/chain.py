"""Commands one after another, stopping at the first that fails: ``chain JSON_LIST_OF_COMMANDS``."""

from __future__ import annotations

import json
import sys

from go2_sevpo.runs.interrupt import kill_interrupts
from go2_sevpo.runs.processes import run


def main() -> None:
    """Run them; a kill ends the running one too."""
    kill_interrupts()
    for command in json.loads(sys.argv[1]):
        try:
            status = run(command)
        except KeyboardInterrupt:
            sys.exit(130)
        if status:
            sys.exit(status)


if __name__ == "__main__":
    main()
