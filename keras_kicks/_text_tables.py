"""Rows of cells as text."""

PIPE = "\\|"


def aligned(rows, left):
    """Return rows under each other, in columns two spaces apart.

    Args:
        rows: Lists of strings, the header first.
        left: Places of the columns that begin at the left; the others end at the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown(rows):
    """Return rows as a Markdown table, the header first."""
    header, *body = (f"| {' | '.join(cell.replace('|', PIPE) for cell in row)} |" for row in rows)
    return "\n".join([header, "| " + " | ".join("-" * len(rows[0])) + " |", *body])
