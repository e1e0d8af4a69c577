"""Draw architecture.svg, the diagram of architecture.rst: python architecture.py."""

from pathlib import Path

# Text and lines have the colour of the text of the page, light or dark.
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
  aria-label="The way of a stamp from its planes to its parameters"
  style="max-width: {width}px; width: 100%; height: auto"
  font-family="sans-serif" font-size="15" fill="currentColor" stroke-linecap="round">
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"
  markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z"/></marker></defs>
"""
WIDTH, TOP, STEP, BOX = 480, 8, 84, 52
LEFT, BREADTH = 68, 356
BOXES = [
    ("stamps", "image, variance, psf", "datasets/, survey/"),
    ("inputs", "checks; arrays that nobody changes", "_inputs.py, _planes.py"),
    ("batch", "everything of some stamps, scaled", "_codec.py, _torch/batches.py"),
    ("encoder", "z_phy, z_rest and variances", "_torch/networks/"),
    ("decoder", "the image, through the PSF", "_torch/networks/"),
    ("parameters", "in the units of the targets", "_codec.py, _targets.py"),
    ("profile fit", "to the bound, with error bars", "_profile_fit.py"),
    ("catalogue", "columns, units and flags", "survey/"),
]


def box(row, name, text, place):
    """Return a box with a name, what it holds, and its place in the package."""
    y = TOP + row * STEP
    return (
        f'<rect x="{LEFT}" y="{y}" width="{BREADTH}" height="{BOX}" rx="6" '
        'fill="none" stroke="currentColor" stroke-width="1.5"/>\n'
        f'<text x="{LEFT + 12}" y="{y + 21}"><tspan font-weight="bold">{name}</tspan>'
        f'<tspan dx="10">{text}</tspan></text>\n'
        f'<text x="{LEFT + 12}" y="{y + 42}" font-size="13" '
        f'font-family="monospace" opacity="0.75">sklcae: {place}</text>\n'
    )


def arrow(path, label="", at=(0, 0), dashed=False):
    """Return an arrow along a path, with a label at a place."""
    dash = ' stroke-dasharray="5 5"' if dashed else ""
    x, y = at
    text = f'<text x="{x}" y="{y}" font-size="13">{label}</text>\n' if label else ""
    return (
        f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.5"{dash} '
        f'marker-end="url(#tip)"/>\n{text}'
    )


def draw():
    """Return the diagram as SVG."""
    parts = [box(row, *one) for row, one in enumerate(BOXES)]
    labels = ["stack_planes, X", "Images", "Batch", "latents", "", "", "a table"]
    down = LEFT + 60
    for row, label in enumerate(labels):
        if row == 4:
            # Parameters come from the latents, not from the decoded image.
            continue
        start, end = TOP + row * STEP + BOX, TOP + (row + 1) * STEP - 2
        parts.append(arrow(f"M{down} {start}V{end}", label, (down + 14, start + 22)))
    right = LEFT + BREADTH
    encoder, decoder, parameters = (TOP + row * STEP + BOX / 2 for row in (3, 4, 5))
    side = LEFT - 24
    around = f"M{LEFT} {encoder}H{side}V{parameters}H{LEFT - 2}"
    parts.append(arrow(around, "z_phy", (side - 42, (encoder + parameters) / 2)))
    batch, far = TOP + 2 * STEP + BOX / 2, right + 44
    loss = f"M{right} {decoder + 12}H{far}V{batch}H{right + 2}"
    parts.append(arrow(loss, "loss", (far - 20, batch - 8), dashed=True))
    height = TOP + (len(BOXES) - 1) * STEP + BOX + TOP
    return HEAD.format(width=WIDTH, height=height) + "".join(parts) + "</svg>\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw())
