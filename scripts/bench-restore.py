#!/usr/bin/env python3
"""bench-restore.py CRIU-DIR NAME=RUNTIME...: measures checkpoint and restore, and compares cold and warm starts.

As root, in a new mount namespace. Each runtime dumps and restores, interleaved and ROUNDS times, an idle `sh`, a
Python program with some 90 MB in memory, and, if a JDK is installed, a Java program with some 200 MB that is compiled when it
starts, all with the CRIU of CRIU-DIR. PROGRAMS selects some of them. Prints medians in milliseconds. Cold is from `run` to
the program's first line, warm from `restore` to its next one. The load is that of the machine during the run."""

import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = int(os.environ.get("ROUNDS", 15))
SH = ["/bin/busybox", "sh", "-c", "echo ready; while sleep 1000; do :; done"]
PYTHON = """
import asyncio, ctypes, decimal, email.mime.text, http.server, json, logging, unittest, urllib.request, xml.dom.minidom
import sys, time
table = {n: str(n) * 8 for n in range(500_000)}
print("ready", flush=True)
while True:
    time.sleep(0.002)
    print("tick", flush=True)
"""
JAVA = """
import java.util.HashMap;
public class Program {
    public static void main(String[] args) throws Exception {
        HashMap<Integer, String> table = new HashMap<>();
        for (int n = 0; n < 500_000; n++) table.put(n, String.valueOf(n).repeat(8));
        System.out.println("ready");
        while (true) {
            Thread.sleep(2);
            System.out.println("tick");
        }
    }
}
"""
PROGRAMS = {"sh": SH, "python": ["/usr/bin/python3", "-c", PYTHON]}
if os.path.exists("/usr/bin/javac"):
    PROGRAMS["java"] = [os.path.realpath("/usr/bin/java"), "-Xmx512m", "/Program.java"]


class Runtime:
    """A compared runtime, with its own container."""

    def __init__(self, name, path, criu, top):
        self.name, self.path, self.dir = name, path, os.path.join(top, name)
        self.id = f"bench-restore-{name}-{os.getpid()}"
        # brig never checkpoints the network namespace, crun always does.
        self.more = ["--empty-ns", "network"] if name == "runc" else []
        self.env = {"PATH": f"{criu}:/usr/sbin:/usr/bin:/sbin:/bin"}
        os.makedirs(self.dir)

    def call(self, *args, out=None):
        command = [self.path, "--root", os.path.join(self.dir, "state"), *args]
        log = os.path.join(self.dir, "errors")
        with open(log, "w", encoding="utf-8") as errors:
            done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out or errors, check=False)
        if done.returncode != 0:
            with open(log, encoding="utf-8") as errors:
                print(f"{' '.join(command)}: {errors.read()}", file=sys.stderr)
            sys.exit(subprocess.call(["grep", "-r", "--include=*.log", "Error (", self.dir]) or 1)

    def forget(self):
        """Removes its container, also after a failure."""
        command = [self.path, "--root", os.path.join(self.dir, "state"), "delete", "--force", self.id]
        subprocess.run(command, env=self.env, stderr=subprocess.DEVNULL, check=False)

    def start(self, bundle, *args):
        """Runs a command that starts a container with a pipe as stdout; returns its start and duration."""
        reader, writer = os.pipe()
        began = time.monotonic()
        try:
            self.call(*args, "--bundle", bundle, self.id, out=writer)
        except SystemExit:
            print(os.read(reader, 65536).decode(errors="replace"), file=sys.stderr)
            raise
        took = time.monotonic() - began
        os.close(writer)
        return reader, began, took

    def cycle(self, bundle, speaks):
        """Cold start, dump, restore."""
        images = tempfile.mkdtemp(dir=self.dir)
        reader, began, _ = self.start(bundle, "run", "--detach")
        os.read(reader, 1)
        cold = time.monotonic() - began
        began = time.monotonic()
        self.call("checkpoint", "--image-path", images, *self.more, self.id)
        dump = time.monotonic() - began
        os.close(reader)
        reader, began, restore = self.start(bundle, "restore", "--detach", "--image-path", images, *self.more)
        if speaks:
            os.read(reader, 1)
        warm = time.monotonic() - began
        self.call("delete", "--force", self.id)
        os.close(reader)
        shutil.rmtree(images)
        return cold, dump, restore, warm


def bundle_of(top, program):
    """busybox, and the dependencies of a program of the host."""
    bundle = os.path.join(top, "bundle")
    root = os.path.join(bundle, "rootfs")
    for name in ["bin", "proc", "dev", "sys", "tmp", "usr", "lib", "lib64", "etc"]:
        os.makedirs(os.path.join(root, name), exist_ok=True)
    shutil.copy("/bin/busybox", os.path.join(root, "bin/busybox"))
    shutil.copy("/bin/busybox", os.path.join(root, "bin/sleep"))
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "../fixtures/bundles/full/config.json"), encoding="utf-8") as file:
        config = json.load(file)
    config["process"]["args"] = program
    with open(os.path.join(root, "Program.java"), "w", encoding="utf-8") as file:
        file.write(JAVA)
    for name in ["/usr", "/lib", "/lib64", *glob.glob("/etc/java-*")]:
        config["mounts"].append({"destination": name, "source": os.path.realpath(name), "options": ["rbind", "ro"]})
    with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    return bundle


def main():
    criu, *named = sys.argv[1:]
    top = tempfile.mkdtemp(prefix="bench-restore.")
    runtimes = []
    try:
        runtimes = [Runtime(*one.split("=", 1), os.path.abspath(criu), top) for one in named]
        print(f"| ms, median of {ROUNDS} | cold | checkpoint | restore | warm |\n| --- | --- | --- | --- | --- |")
        for name in os.environ.get("PROGRAMS", " ".join(PROGRAMS)).split():
            program = PROGRAMS[name]
            bundle = bundle_of(top, program)
            taken = {runtime.name: [] for runtime in runtimes}
            for _ in range(ROUNDS):
                for runtime in runtimes:
                    taken[runtime.name].append(runtime.cycle(bundle, name != "sh"))
            for runtime in runtimes:
                medians = [statistics.median(times) * 1000 for times in zip(*taken[runtime.name])]
                print(f"| {name}, {runtime.name} | " + " | ".join(f"{ms:.0f}" for ms in medians) + " |", flush=True)
        print(f"load: {' '.join(map(str, os.getloadavg()))}")
    finally:
        for runtime in runtimes:
            runtime.forget()
        # runc leaves a mount of the root filesystem behind if a restore fails.
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            left = [line.split()[4] for line in file]
        for point in reversed([point for point in left if point.startswith(top + "/")]):
            subprocess.run(["umount", point], check=True)
        subprocess.run(["rm", "-rf", "--one-file-system", top], check=True)


main()
