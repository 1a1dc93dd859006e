#!/usr/bin/env python3
"""Checks that every block of commands in README.md and docs/*.md is run somewhere.

documents.py           each block of commands has a mark in the line before it, else this fails:
                         <!-- run -->            by `documents.py run`, which compares what it prints
                         <!-- run by: WHAT -->   by another target of the Makefile
                         <!-- not run: WHY -->
                       prints how many there are of each
documents.py run BRIG  runs those marked `run` as root, in order, one shell for each document, with BRIG as `brig`
                       in PATH and from the top of the repository; `make documents` calls it

A block of commands is a code block (indented or fenced) with a line that begins with `# ` or `$ `, or with the name of a
program of PROGRAMS. What a command prints is compared after numbers, times, hashes and paths have been made the same.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
# Written by `make book`, including the output of its commands.
BOOK = "docs/how-containers-work.md"
PROGRAMS = (
    "apt brig buildah cargo cp crictl ctr curl docker export ip journalctl kubectl make mkdir nerdctl podman sed skopeo sudo"
    " systemctl umoci unshare"
).split()
MARK = re.compile(r"<!-- (run|run by: .+|not run: .+) -->")
END = "-- end of a command: "


def blocks(path: Path):
    """Every code block of a document: line number, mark or None, lines."""
    lines = path.read_text().split("\n")
    mark, number = None, 0
    while number < len(lines):
        line, start, found = lines[number], number + 1, []
        if line.startswith("```"):
            number += 1
            while not lines[number].startswith("```"):
                found.append(lines[number])
                number += 1
        elif line.startswith("    ") and not lines[number - 1].startswith(("-", "*", "|", "1")):
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number].strip()):
                found.append(lines[number][4:])
                number += 1
            number -= 1
        if found:
            while not found[-1].strip():
                found.pop()
            yield start, mark, found
            mark = None
        elif line.strip():
            match = MARK.fullmatch(line.strip())
            mark = match[1] if match else None
        number += 1


def has_commands(block: list) -> bool:
    first = [line.split(" ")[:2] for line in block]
    return any(words[0] in ("#", "$") or words[0] in PROGRAMS and words[1:] != ["="] for words in first)


def documents():
    return [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]


def check() -> int:
    counts, wrong = Counter(), 0
    for path in documents():
        name = str(path.relative_to(TOP))
        for line, mark, block in blocks(path):
            if not has_commands(block):
                continue
            if name == BOOK:
                mark = "run by: make book"
            if mark is None:
                print(f"{name}:{line}: a block of commands without a mark: is it run? (scripts/documents.py)", file=sys.stderr)
                wrong += 1
            else:
                counts[mark if mark == "run" or mark.startswith("run by") else "not run"] += 1
    print("blocks of commands: " + ", ".join(f"{count} {mark}" for mark, count in sorted(counts.items())))
    return min(wrong, 1)


def same(text: str) -> str:
    """Normalises values that differ between runs."""
    text = re.sub("\x1b\\[[0-9]*m", "", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r"(/[\w.-]+)+/target/demo", "TOP/target/demo", text)
    text = re.sub(r"\b\d+(\.\d+)?(KiB|MiB|GiB|B)\b", "SIZE", text)
    text = re.sub(r"(cpu_percent *= *)\d+", r"\1N", text)
    text = re.sub(r"\b\d{3,}\b|\b\d+\.\d\b", "N", text)
    return re.sub(r" +", " ", text).strip()


def commands(block: list):
    """(command, expected output) of a block; a backslash continues a command."""
    found, going_on = [], False
    for line in block:
        if going_on:
            found[-1][0] += "\n" + line
        elif line.startswith("# "):
            found.append([line[2:], []])
        else:
            found[-1][1].append(line)
        going_on = line.endswith("\\") and not found[-1][1]
    return found


def demo() -> int:
    """Checks that the picture of the demo shows lines of the output of `make demo`, in order."""
    printed = iter(same(line) for line in (TOP / "target" / "demo.txt").read_text().split("\n"))
    for line in (TOP / "docs" / "pictures" / "demo.txt").read_text().split("\n"):
        if line.strip() not in ("", "…") and same(line) not in printed:
            print(f"docs/pictures/demo.txt: `make demo` did not print, or not in this order: {line}", file=sys.stderr)
            return 1
    return 0


def run(brig: str) -> int:
    directory = TOP / "target" / "documents"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "brig").unlink(missing_ok=True)
    (directory / "brig").symlink_to(Path(brig).resolve())
    environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": ""}
    for path in documents():
        marked = [(line, block) for line, mark, block in blocks(path) if mark == "run"]
        if not marked:
            continue
        name = path.relative_to(TOP)
        # A private state root and /tmp, which end with its mount namespace.
        script = "mount -t tmpfs documents /tmp && mount -t tmpfs documents /run\n"
        steps = [(line, *step) for line, block in marked for step in commands(block)]
        for _, command, _ in steps:
            script += f"{command}\nstatus=$?; printf '\\n{END}'; (exit $status)\n"
        shell = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "timeout", "120", "bash"], input=script, env=environment,
            cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        answers = shell.stdout.split("\n" + END)
        for (line, command, expected), answer in zip(steps, answers):
            if same(answer) != same("\n".join(expected)):
                print(f"{name}: block at line {line}: {command}\nexpected:\n" + "\n".join(expected) + f"\nprinted:\n{answer}", file=sys.stderr)
                return 1
        if len(answers) <= len(steps):
            print(f"{name}: the shell ended early:\n{answers[-1]}", file=sys.stderr)
            return 1
        print(f"{name}: {len(steps)} commands print what the text says")
    return demo()


sys.exit(run(sys.argv[2]) if sys.argv[1:2] == ["run"] else check())
