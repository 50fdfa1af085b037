"""Tables in Markdown, how a figure is written, and how a run's sections replace those of the run before."""

import re

from machine import median


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def ratio(pairs, digits=2):
    """The median of the rounds' quotients, with the smallest and the largest."""
    quotients = [over / under for over, under in pairs]
    return f"**{median(quotients):.{digits}f}** ({min(quotients):.{digits}f}–{max(quotients):.{digits}f})"


def spread(values, unit, digits=0):
    return f"**{median(values):.{digits}f} {unit}** ({min(values):.{digits}f}–{max(values):.{digits}f})"


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def sections(text):
    """A page's parts that begin with a heading of the second level, by heading; what stands before the first is ""."""
    parts = re.split(r"(?m)^(?=## )", text)
    return {part.split("\n", 1)[0] if part.startswith("## ") else "": part for part in parts}


def merge(page, run, notes):
    """The page with the sections of `run` in the place of theirs, or behind the others; `notes` end it."""
    kept, new, last = sections(page), sections(run), sections(notes)
    kept = {heading: part for heading, part in kept.items() if heading not in last}
    said = "\n" + new.pop("").split("\n")[2] + "\n"  # the line that tells day, machine and command
    for heading, part in new.items():
        if heading not in last:
            kept[heading] = part.replace("\n", "\n" + said, 1)
    return "\n".join(part.strip("\n") + "\n" for part in [*kept.values(), notes])
