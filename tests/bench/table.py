"""A row of the table of figures, and the table as people read it."""

HEAD = ("what", "figure", "floor or peer", "ratio", "target", "")


def row(what, unit, figure, floor, floor_is, target, met=None):
    """`met` is None for what is only compared. `floor` may be None where there is none."""
    return {"what": what, "unit": unit, "figure": round(figure, 1), "floor": None if floor is None else round(floor, 1),
            "floor_is": floor_is, "ratio": round(figure / floor, 2) if floor else None, "target": target, "met": met}


def number(value, unit):
    return "" if value is None else f"{value:g} {unit}"


def lines(rows, markdown=False):
    table = [HEAD]
    for one in rows:
        floor = f"{number(one['floor'], one['unit'])}{' ' if one['floor'] is not None else ''}({one['floor_is']})"
        met = {True: "met", False: "MISSED", None: ""}[one["met"]]
        table.append((one["what"], number(one["figure"], one["unit"]), floor, number(one["ratio"], "").strip(), one["target"], met))
    if markdown:
        yield "| " + " | ".join(HEAD) + " |"
        yield "|---" * len(HEAD) + "|"
        yield from ("| " + " | ".join(cells) + " |" for cells in table[1:])
        return
    widths = [max(len(cells[i]) for cells in table) for i in range(len(HEAD))]
    for cells in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip()
