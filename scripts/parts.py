#!/usr/bin/env python3
"""parts.py licences|sbom TARGET: what the static binary for TARGET is made of: brig, crates, Rust's standard library, and
the C library. `licences` prints their licences, each text once; `sbom` prints CycloneDX. The same sources and tools give
the same bytes: no times, no random numbers, all in order. Macros and build scripts run while brig is built, and are no
part of it."""

import collections
import html
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

LICENCE = re.compile(r"(?i)(un)?licen[sc]e|copying|copyright|notice")


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def crates(target):
    """The crates linked into brig, and the ids of their dependencies."""
    known = json.loads(output("cargo", "metadata", "--locked", "--format-version=1", "--filter-platform", target))
    packages = {package["id"]: package for package in known["packages"]}
    nodes = {node["id"]: node for node in known["resolve"]["nodes"]}

    # The metadata includes features, and so crates, that only tests enable.
    tree = output("cargo", "tree", "--locked", "--package=brig", "--edges=normal", "--target", target, "--prefix=none")
    shipped = {tuple(line.split()[:2]) for line in tree.splitlines() if line}

    def linked(dependency):
        package = packages[dependency["pkg"]]
        macro = any("proc-macro" in target["kind"] for target in package["targets"])
        return (package["name"], f"v{package['version']}") in shipped and not macro

    needs, waiting = {}, [next(id for id, package in packages.items() if package["name"] == "brig")]
    while waiting:
        one = waiting.pop()
        if one not in needs:
            needs[one] = [dependency["pkg"] for dependency in nodes[one]["deps"] if linked(dependency)]
            waiting += needs[one]
    order = sorted(needs, key=lambda id: (packages[id]["name"] != "brig", packages[id]["name"], packages[id]["version"]))
    return [(packages[id], [packages[need] for need in needs[id]]) for id in order]


def c_library(target):
    """Debian's package of the linked C library, and its version."""
    arch = target.split("-")[0]
    names = ["libc6-dev"] if arch == os.uname().machine else [f"libc6-dev-{'arm64' if arch == 'aarch64' else arch}-cross"]
    return names[0], output("dpkg-query", "--show", "--showformat", "${Version}", names[0])


def standard_library():
    """The notices of Rust, as installed by rustup or by Debian."""
    notices = pathlib.Path(output("rustc", "--print", "sysroot").strip(), "share/doc/rust/COPYRIGHT-library.html")
    if not notices.exists():
        return pathlib.Path("/usr/share/doc/rustc/copyright").read_text()
    text = html.unescape(re.sub(r"<[^>]*>", "", notices.read_text()))
    return re.sub(r"\s*\n\s*\n\s*", "\n\n", text).strip()


def licences(target):
    texts = collections.defaultdict(list)
    for package, _ in crates(target):
        if package["source"] is None:
            continue
        name = f"{package['name']} {package['version']} ({package['license']})"
        home = pathlib.Path(package["manifest_path"]).parent
        files = sorted(file for file in home.iterdir() if file.is_file() and LICENCE.match(file.name))
        if not files:
            texts[f"It comes without a text of its licence, {package['license']}."].append(name)
        for file in files:
            texts[file.read_text().strip()].append(name)
    name, version = c_library(target)
    texts[pathlib.Path(f"/usr/share/doc/{name}/copyright").read_text().strip()].append(f"The GNU C library ({name} {version})")
    texts[standard_library()].append(f"The standard library of {output('rustc', '--version').strip()}")
    print("brig is licensed under the Apache License 2.0. Its binary contains the following works of others.")
    for text, users in texts.items():
        print("\n" + "=" * 100 + "\n" + "\n".join(users) + "\n" + "-" * 100 + f"\n{text}")


def sbom(target):
    with open("Cargo.lock", "rb") as file:
        locked = {(one["name"], one["version"]): one.get("checksum") for one in tomllib.load(file)["package"]}

    def reference(package):
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package):
        name, version = package["name"], package["version"]
        purl = reference(package)
        kind = "application" if name == "brig" else "library"
        one = {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}
        if locked[name, version]:
            one["hashes"] = [{"alg": "SHA-256", "content": locked[name, version]}]
        one["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}]
        return one

    parts = crates(target)
    brig, *others = [component(package) for package, _ in parts]
    name, version = c_library(target)
    rust = output("rustc", "--version").split()[1]
    std = {"type": "library", "bom-ref": "rust-std", "name": "rust-std", "version": rust}
    std["licenses"] = [{"expression": "MIT OR Apache-2.0"}]
    purl = f"pkg:deb/debian/{name}@{version}"
    libc = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    libc["licenses"] = [{"expression": "LGPL-2.1-or-later"}]
    graph = [
        {"ref": reference(package), "dependsOn": sorted({reference(need) for need in needs})} for package, needs in parts
    ]
    graph[0]["dependsOn"] += ["rust-std"]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": brig, "properties": [{"name": "target", "value": target}]},
        "components": others + [std, libc],
        "dependencies": graph + [{"ref": "rust-std", "dependsOn": [purl]}],
    }
    print(json.dumps(bom, indent=1))


{"licences": licences, "sbom": sbom}[sys.argv[1]](sys.argv[2])
