"""What script/mutants shows of its results: a table for the terminal, and docs/DETECTION.md."""
import os
import statistics
from pathlib import Path


def row(cells):
    left = f"{cells[0]:<8} {cells[1]:<22} {cells[2]:>8} {cells[3]:>8} {cells[4]:>7}"
    return f"{left}   {cells[5]:<18} {cells[6]:>8} {cells[7]:>7}".rstrip()


def replay(scratch, name, case):
    return f"{os.path.relpath(scratch / 'bin' / name)} replay {os.path.relpath(scratch / case)}"


def table(results, control, scratch):
    """`scratch`: the directory with the mutants' commands and cases."""
    lines = [row(("mutant", "caught by", "seed", "seeds", "CPU s", "black box alone", "seeds", "CPU s"))]
    other = False
    for result in results:
        if "build_failed" in result:
            lines.append(row((result["id"][:8], "DOES NOT BUILD", "", "", "", "", "", "")))
            continue
        box = result["black_box"]
        boxed = ("", "", "")
        if box:
            boxed = ((box["property"] if box["caught"] else "missed")[:18], box["seeds"], f"{box['cpu_s']:.1f}")
        mark = ""
        if result["caught"] and result["expected"] and not result["declared"]:
            mark, other = " *", True
        found = (result["property"] if result["caught"] else "MISSED")[:20] + mark
        lines.append(row((result["id"][:8], found, result["seed"] or "", result["seeds"], f"{result['cpu_s']:.1f}",
                          *boxed)))
    verdict = "clean" if control["clean"] else f"{control['failed']} failed, {control['inconclusive']} inconclusive"
    lines.append(row(("control", verdict, "", control["seeds"], f"{control['cpu_s']:.1f}", "", "", "")))
    if not control["clean"]:
        lines.append("The control is not clean, so a mutant may have been caught for the control's reason.")
    if other:
        lines.append("* caught, but by another property than the declared one")
    for result in results:
        if "build_failed" in result:
            lines.append(f"\n{result['id']} does not build:\n{result['build_failed']}")
        elif not result["caught"] and result["needs"]:
            lines.append(f"\n{result['id']} needs {result['needs']}")
    for failure in control["failures"][:5]:
        summary = " ".join(failure["summary"].split())[:300]
        lines.append(f"\ncontrol, seed {failure['seed']}: {failure['property']}: {summary}\n"
                     f"  replay   {replay(scratch, 'control', failure['case'])}")
    shown = next((result for result in results if result["caught"] and (scratch / result["case"]).exists()), None)
    if shown:
        lines.append(f"\nHow {shown['id']} fails:  {replay(scratch, shown['id'], shown['case'])} --trace")
    return "\n".join(lines)


# --- docs/DETECTION.md

INTRODUCTION = """# What the simulator detects

Mistakes that real systems shipped, or nearly shipped, each planted as the smallest change that makes it (the patches in
`tests/mutants`), and what it took a scenario of `mneme sim` to notice. This file is written by

    script/mutants --write --seconds {seconds} --black-box-seconds {box_seconds}{ways}

which hunts each mutant in {ranges} disjoint ranges of seeds, for at most {seconds} CPU seconds in each; the figures are
those of the range in the middle. *2 of 5* says in how many of the ranges tried it was caught, if not in all of them: no
more are tried once the middle is known to be a miss, and what `--from` takes over may have been tried in fewer.
*Declared*: nothing but a property that the patch declares caught it. The black box alone has only what clients saw
(`mneme sim --black-box-only`){box}.
"""


def cell(text):
    return str(text).replace("|", "\\|")


def markdown_row(cells):
    return "| " + " | ".join(cell(c) for c in cells) + " |"


def markdown_table(heads, rows):
    return "\n".join([markdown_row(heads), "|" + "---|" * len(heads), *map(markdown_row, rows)]) + "\n"


def how(found):
    """Three cells of one way to judge: what caught it, seeds, CPU seconds."""
    if found is None:
        return ("", "", "")
    ranges = len(found["ranges"])
    part = f" ({found['caught_in']} of {ranges})" if 0 < found["caught_in"] < ranges or ranges == 1 else ""
    if not found["caught"]:
        return ("**missed**" + part, f"> {found['seeds']}", f"> {found['cpu_s']:.0f}")
    return (", ".join(found["properties"]) + part, found["seeds"], f"{found['cpu_s']:.1f}")


def summary(results, control):
    caught = [result for result in results if result["caught"]]
    spent = [result["cpu_s"] if result["caught"] else float("inf") for result in results]
    middle = statistics.median_low(spent)
    lines = [f"{len(caught)} of {len(results)} mutants are caught. "
             f"Median over all of them: {middle:.1f} CPU seconds to a caught mutant."]
    if caught:
        slowest = max(caught, key=lambda result: result["cpu_s"])
        lines.append(f"The slowest that is caught: {slowest['id']}, {slowest['cpu_s']:.1f} CPU seconds.")
    boxes = [result["black_box"] for result in results if result.get("black_box")]
    if boxes:
        lines.append(f"The black box alone catches {sum(box['caught'] for box in boxes)} of {len(boxes)}.")
    lines.append(f"The control, the tree as it is, passed {control['passed']} of {control['seeds']} seeds, among them "
                 f"every seed that caught a mutant.")
    return " ".join(lines)


def wrapped(text, width=120):
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = ""
        line += (" " if line else "") + word
    return "\n".join(lines + [line])


def ways_of(results):
    """The section that compares ways to search."""
    compared = [result for result in results if result.get("ways")]
    if not compared:
        return []
    seconds = max(result["ways"]["seconds"] for result in compared)
    ways = list(compared[0]["ways"]["spent"])
    ranges = max(len(spent) for result in compared for spent in result["ways"]["spent"].values())

    def middle(result, way):
        spent = sorted(float("inf") if cpu is None else cpu for cpu in result["ways"]["spent"][way])
        return spent[(len(spent) - 1) // 2]

    rows = []
    for way in ways:
        runs = [cpu for result in compared for cpu in result["ways"]["spent"][way]]
        caught = [cpu for cpu in runs if cpu is not None]
        total = sum(caught) + seconds * (len(runs) - len(caught))
        median = statistics.median_low(middle(result, way) for result in compared)
        rows.append((way, f"{len(caught)} of {len(runs)}", f"{total:.0f}", f"{median:.1f}"))
    slow = [result for result in compared if max(middle(result, way) for way in ways) > 1]
    details = [(result["id"], *(f"> {seconds}" if middle(result, way) > seconds * 10 else f"{middle(result, way):.1f}"
                                for way in ways)) for result in slow]
    text = f"""What each way to search contributes: every mutant hunted with it in {ranges} ranges of seeds, for at most
        {seconds} CPU seconds in each. *As drawn*: each seed draws its scheduling strategy and everything else, which is
        what `mneme sim` does. The others fix or leave out one thing: a strategy for all seeds (sim/schedule.h), no rare
        behaviour in core, no faults that wait for a state. *8 branches*: up to 8 runs more per seed, forked at its rare
        moments (`--branch 8`), their CPU time counted. In the sum a miss counts with all its seconds."""
    return ["## Ways to search\n", wrapped(text) + "\n",
            markdown_table(("way", "caught", "CPU s in sum", "median CPU s"), rows),
            "CPU seconds, median of the ranges, of the mutants that took more than one second in some way:\n",
            markdown_table(("id", *ways), details)]


def document(results, control, pending):
    whole = [result for result in results if "build_failed" not in result]
    seconds = max((result["seconds"] for result in whole), default=0)
    box_seconds = max((result["black_box_seconds"] for result in whole), default=0)
    ranges = max((len(result["ranges"]) for result in whole), default=0)
    box = f", for at most {box_seconds} CPU seconds" if box_seconds not in (0, seconds) else ""
    rows = [(result["id"], result["mistake"], result.get("scenario", "kv"), *how(result),
             "" if not result["caught"] else "yes" if result["declared"] else "**no**",
             *how(result["black_box"])) for result in whole]
    ways = max((result["ways"]["seconds"] for result in whole if result.get("ways")), default=0)
    ways = f" --ways-seconds {ways}" if ways else ""
    parts = [INTRODUCTION.format(ranges=ranges, seconds=seconds, box_seconds=box_seconds, box=box, ways=ways),
             wrapped(summary(whole, control)) + "\n",
             markdown_table(("id", "mistake", "scenario", "caught by", "seeds", "CPU s", "declared", "black box alone", "seeds",
                             "CPU s"), rows)]
    missed = [(result["id"], result["needs"] or "not known yet") for result in whole if not result["caught"]]
    if missed:
        parts += ["## Missed\n", markdown_table(("id", "what catching it needs"), missed)]
    parts += ways_of(whole)
    parts += ["## Not planted\n",
              markdown_table(("id", "mistake", "state", "why"),
                             [(entry["id"], entry["mistake"], entry["state"], entry["reason"]) for entry in pending]),
              (Path(__file__).parent / "branching.md").read_text()]
    return "\n".join(parts)
