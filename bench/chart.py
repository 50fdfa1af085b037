"""A chart of ratios as SVG, made from the figures of a table: a group of bars for each row."""

from xml.sax.saxutils import escape

BAR, GAP, LEFT, SCALE, TOP = 14, 10, 380, 300, 40
COLORS = ("#9aa5b1", "#4f7cac", "#1f4e79", "#c0561b")


def write(path, title, names, rows):
    """rows: (label, a value for each name); the longest bar is the largest value, and 1 is marked."""
    largest = max(value for _, values in rows for value in values)
    height = TOP + len(rows) * (len(names) * BAR + GAP) + 30
    width = LEFT + SCALE + 80
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
             f'font-size="12">', f'<rect width="{width}" height="{height}" fill="white"/>',
             f'<text x="10" y="20" font-weight="bold">{escape(title)}</text>']
    y = TOP
    for label, values in rows:
        middle = y + len(names) * BAR / 2 + 4
        parts.append(f'<text x="{LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>')
        for number, (name, value) in enumerate(zip(names, values)):
            length = SCALE * value / largest
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{COLORS[number]}"/>')
            parts.append(f'<text x="{LEFT + length + 4:.0f}" y="{y + BAR - 4}" font-size="10">{escape(name)}: {value:.2f}</text>')
            y += BAR
        y += GAP
    one = LEFT + SCALE / largest
    parts.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 6}" y2="{y}" stroke="black" stroke-dasharray="3 3"/></svg>')
    path.write_text("\n".join(parts) + "\n")
