"""Tables in Markdown, and how a figure is written."""

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
