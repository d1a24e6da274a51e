"""Options that take several values, given more than once."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence


def joined_lists(arguments: Sequence[str], *names: str) -> List[str]:
    """The same arguments, with all values of each option in ``names`` behind its first mention.

    ``--set a=1 --set b=2`` then says what ``--set a=1 b=2`` does; a parser would keep only the
    last. ``--set=a=1`` counts, too. Values are what follows up to the next argument that begins
    with a hyphen.

    Args:
        arguments: of a command line, without the command.
        names: with their hyphens: ``--set``.
    """
    values: Dict[str, List[str]] = {name: [] for name in names}
    rest: List[str] = []
    current: Optional[str] = None  # whose values are being read
    for argument in arguments:
        name, sign, value = argument.partition("=")
        if name in values:
            current = name
            if name not in rest:
                rest.append(name)
            if sign:
                values[name].append(value)
        elif argument.startswith("-"):
            current = None
            rest.append(argument)
        elif current is not None:
            values[current].append(argument)
        else:
            rest.append(argument)
    found: List[str] = []
    for argument in rest:
        found += [argument, *values.get(argument, [])]
    return found
