"""person.py STEPS COMMAND…: the command on a terminal, as a person would use it.

STEPS is a list of lines: `size ROWS COLUMNS`, `see PATTERN`, `type TEXT` (with Python's escapes), `wait
SECONDS`, and at the end `code N`, the exit code, or `end`, whatever it is. Each `see` waits 20 s for what comes after the last one.
"""
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

steps, command = sys.argv[1].strip().splitlines(), sys.argv[2:]
resize = lambda rows, columns: fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
seen, all_seen, status = "", "", None


def fail(why):
    print(f"{why}\nseen: {all_seen!r}")
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    sys.exit(1)


def read(seconds):
    """False at the end."""
    global seen, all_seen
    if not select.select([master], [], [], max(seconds, 0))[0]:
        return True
    try:
        data = os.read(master, 65536).decode(errors="replace")
    except OSError:
        data = ""
    seen, all_seen = seen + data, all_seen + data
    return data != ""


child, master = pty.fork()
if child == 0:
    # The size is set before it can be queried.
    if steps[0].split()[0] == "size":
        rows, columns = map(int, steps[0].split()[1:])
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    os.execvp(command[0], command)
for step in steps:
    verb, _, what = step.strip().partition(" ")
    deadline = time.monotonic() + 20
    if verb == "size":
        resize(*map(int, what.split()))
    elif verb == "type":
        os.write(master, what.encode().decode("unicode_escape").encode("latin1"))
    elif verb == "wait":
        time.sleep(float(what))
    elif verb == "see":
        while not (found := re.search(what, seen)):
            if time.monotonic() > deadline or not read(deadline - time.monotonic()):
                fail(f"never seen: {what}")
        seen = seen[found.end() :]
    elif verb in ("code", "end"):
        while read(deadline - time.monotonic()):
            if time.monotonic() > deadline:
                fail("does not end")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if verb == "code" and status != int(what):
            fail(f"exit code {status}, not {what}")
