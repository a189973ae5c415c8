"""The rule that three benchmarks share in variants: some lead-ins removed, the first capital option letter wins."""

from __future__ import annotations

import re
from collections.abc import Sequence


def first_capital(text: str, letters: str, lead_ins: Sequence[str]) -> str:
    """The first capital among `letters` once every lead-in is cut out, wherever it stands; "" if there is none."""
    rest = text.strip()
    for lead_in in lead_ins:
        rest = rest.replace(lead_in, "")
    found = re.search(f"[{letters}]", rest)
    return found.group() if found else ""
