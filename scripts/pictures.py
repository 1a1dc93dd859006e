#!/usr/bin/env python3
"""The pictures of README.md: docs/pictures/*.svg from the text and the figures beside them.

pictures.py                  writes demo.svg (from demo.txt) and bench.svg (from bench.json)
pictures.py --check          fails if they are not what it would write
pictures.py --figures FILE   bench.json from FILE, the results.json that `make bench` wrote
"""

import datetime
import json
import statistics
import sys
from html import escape
from pathlib import Path

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
SANS = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
# Operations of the benchmark that the chart shows, and their labels.
SHOWN = {
    "run-minimal": "run /bin/true", "run-full": "run, full config", "create": "create", "start": "start",
    "exec": "exec /bin/true", "state": "state", "delete": "delete",
}
PEERS = ["brig", "crun", "runc", "youki"]


def terminal(text: str) -> str:
    """A terminal with `text` in it: prompts bold, results of checks green."""
    lines = text.rstrip("\n").split("\n")
    columns = max(map(len, lines))
    width, height = columns * 7.9 + 40, len(lines) * 17 + 52
    rows = []
    for number, line in enumerate(lines):
        kind = "p" if line.lstrip().startswith("$ ") else "o" if line.startswith("  ok  ") else "t"
        kind = "h" if line and not line.startswith(" ") else kind
        rows.append(f'<text class="{kind}" x="20" y="{54 + number * 17}">{escape(line)}</text>')
    buttons = "".join(
        f'<circle cx="{22 + 18 * i}" cy="20" r="5.5" fill="{color}"/>'
        for i, color in enumerate(["#ff5f57", "#febc2e", "#28c840"])
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}"'
        f' height="{height}" role="img" xml:space="preserve"'
        ' aria-label="make demo, in a terminal">\n<style>text{{font:13px {MONO};'
        "white-space:pre;fill:#d6deeb}.p{font-weight:bold;fill:#fff}.o{fill:#7ee787}.h{font-weight:bold;"
        f'fill:#79c0ff}}</style>\n<rect width="100%" height="100%" rx="9" fill="#0d1520"/>{buttons}\n'
        + "\n".join(rows) + "\n</svg>\n"
    )


def chart(figures: dict) -> str:
    """Bars: wall time of each runtime relative to crun's; the longest are truncated."""
    colors = {"brig": "#2f81f7", "crun": "#8b949e", "runc": "#b08850", "youki": "#a371c2"}
    left, unit, cut, bar = 150, 190, 3.0, 13
    y, rows = 74, []
    for row in figures["operations"]:
        peers = [peer for peer in PEERS if peer in row["wall"]]
        middle = y + len(peers) * bar / 2 + 4
        rows.append(f'<text class="n" x="{left - 12}" y="{middle:.0f}">{escape(row["name"])}</text>')
        for peer in peers:
            value = row["wall"][peer]
            length = min(value, cut) * unit
            note = f"{value:.2f}" + (" →" if value > cut else "")
            rows.append(
                f'<rect x="{left}" y="{y}" width="{length:.0f}" height="{bar - 2}" fill="{colors[peer]}"/>'
                f'<text class="v{" b" if peer == "brig" else ""}" x="{left + length + 6:.0f}" y="{y + 10}">{note}</text>'
            )
            y += bar
        y += 11
    legend = "".join(
        f'<rect x="{left + 110 * i}" y="42" width="11" height="11" fill="{colors[peer]}"/>'
        f'<text x="{left + 16 + 110 * i}" y="52">{escape(peer + " " + figures["versions"].get(peer, ""))}</text>'
        for i, peer in enumerate(PEERS)
    )
    width, height = left + cut * unit + 70, y + 22
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}"'
        f' height="{height}" role="img" aria-label="wall time of brig, crun, runc and youki">\n'
        f"<style>text{{font:12px {SANS};fill:#24292f}}.t{{font-size:15px;font-weight:bold}}.n{{text-anchor:end}}"
        ".v{font-size:10px}.b{font-weight:bold}.f{font-size:10px;fill:#57606a}.c{fill:#fff}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.f{fill:#8d96a0}.c{fill:#0d1117}}</style>\n"
        '<rect class="c" width="100%" height="100%" rx="9"/>\n'
        f'<text class="t" x="20" y="26">Wall time, as a multiple of crun\'s (shorter is better)</text>{legend}\n'
        + "\n".join(rows)
        + f'\n<text class="f" x="20" y="{height - 8}">{escape(figures["source"])}</text>\n</svg>\n'
    )


def figures(results: dict) -> dict:
    """The contents of bench.json, from results.json: ratios of medians to crun's, wall and CPU time."""
    taken = {(s["operation"], s["peer"]): [x for x in s["samples"] if x] for s in results["samples"]}

    def ratios(operation: str, what: str) -> dict:
        median = {p: statistics.median(x[what] for x in taken[operation, p]) for p in PEERS if taken.get((operation, p))}
        return {peer: round(value / median["crun"], 2) for peer, value in median.items()}

    rounds = max(map(len, taken.values()))
    today = datetime.date.today().isoformat()
    return {
        "source": f"make bench, {today}: Linux {results['kernel']}, {results['cpus']} CPUs, cgroup "
                  f"{results['cgroup']}; medians of {rounds} interleaved rounds",
        "versions": {p["name"]: p["version"].split()[-1] for p in results["peers"] if p["name"] in PEERS and p["version"]},
        "operations": [
            {"name": name, "wall": ratios(key, "wall_ns"), "cpu": ratios(key, "cpu_ns")}
            for key, name in SHOWN.items() if (key, "crun") in taken
        ],
    }


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--figures"]:
        found = figures(json.loads(Path(arguments[1]).read_text()))
        (PICTURES / "bench.json").write_text(json.dumps(found, indent=2) + "\n")
    made = {
        "demo.svg": terminal((PICTURES / "demo.txt").read_text()),
        "bench.svg": chart(json.loads((PICTURES / "bench.json").read_text())),
    }
    wrong = [name for name, text in made.items() if len(text.encode()) > 40_000]
    for name, text in made.items():
        if "--check" not in arguments:
            (PICTURES / name).write_text(text)
        elif not (PICTURES / name).exists() or (PICTURES / name).read_text() != text:
            wrong.append(name)
    for name in wrong:
        print(f"docs/pictures/{name} is larger than 40 kB, or not what scripts/pictures.py makes of its source", file=sys.stderr)
    return 1 if wrong else 0


sys.exit(main())
