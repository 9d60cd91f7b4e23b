#!/usr/bin/env python3
"""Runs pyinotifyd and rinotifyd, with the converted configuration, over the same random changes, and compares
which tasks ran, for which events and paths, and what is on disk at the end.

usage: differential.py [--seeds N] [--first SEED] [--groups N] RINOTIFYD

Makes a virtual environment with pyinotifyd 0.0.9 (which needs Python 3.11 or older) below
target/differential. All seeds run side by side. Whatever differs beyond the table in contrib/README.md
fails. The examples of pyinotifyd's manual and its default configuration are converted and tested, too.
"""

import argparse
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(HERE)
CONVERT = os.path.join(ROOT, "contrib/from-pyinotifyd")
VENV = os.path.join(ROOT, "target/differential")
DEADLINE_S = 60

# Below delay, and far above it.
SHORT_S, LONG_S = 0.15, 3.0

CONFIG = r'''
import os
import logging
from pyinotifyd import EventMap

TREE, OUT = os.environ["TREE"], os.environ["OUT"]

def note(name, event, task_id):
    assert isinstance(task_id, str) and task_id
    fields = [name, event.maskname, hex(event.mask), str(event.dir), event.pathname, event.path, event.name,
              getattr(event, "src_pathname", "-")]
    with open(OUT, "a", errors="surrogateescape") as file:
        file.write("|".join(fields) + "\n")

async def later(event, task_id):
    note("later", event, task_id)

async def once(event, task_id):
    note("once", event, task_id)

async def moved(event, task_id):
    logging.info(f"{task_id}: {event}")
    note("moved", event, task_id)

SHELL = "echo shell '|' {maskname} '|' {pathname} '|' {src_pathname} >>" + OUT

shell_sched = ShellScheduler(cmd=SHELL, delay=1)
dir_sched = ShellScheduler(cmd=SHELL.replace("shell", "dirs"), files=False, dirs=True)
later_sched = TaskScheduler(job=later, delay=1, global_vars=globals())
once_sched = TaskScheduler(job=once, delay=1, singlejob=True, global_vars=globals())
moved_sched = TaskScheduler(job=moved, global_vars=globals())
rules = [
    FileManagerRule(action="move", src_re="^" + TREE + r"/files/(?P<path>.*)\.mv$",
                    dst_re=TREE + r"/to/\g<path>", auto_create=True, filemode=0o640, dirmode=0o750),
    FileManagerRule(action="copy", src_re="^" + TREE + r"/files/(.*)\.cp$", dst_re=TREE + r"/to/\1.copy",
                    auto_create=True, filemode=0o604, dirmode=0o705),
    FileManagerRule(action="delete", src_re="^" + TREE + r"/files/.*\.rm$")]
file_sched = FileManagerScheduler(rules=rules, delay=1)

def cancelling(*schedulers):
    start, cancel = list(schedulers), [Cancel(scheduler) for scheduler in schedulers]
    return {"IN_CLOSE_WRITE": start, "IN_MOVED_TO": start, "IN_DELETE": cancel, "IN_MOVED_FROM": cancel,
            "IN_MODIFY": cancel, "IN_OPEN": None}

tasks = cancelling(shell_sched, later_sched)
files = EventMap(event_map=cancelling(file_sched))
rest = {"IN_CLOSE_WRITE": once_sched, "IN_DELETE": once_sched}
now = EventMap(event_map={"IN_MOVED_TO": moved_sched, "IN_CREATE": dir_sched})

pyinotifyd = Pyinotifyd(shutdown_timeout=10)
pyinotifyd.add_watch(path=TREE + "/tasks", event_map=tasks, rec=True, auto_add=True,
                     exclude_filter=["^" + TREE + r"/tasks/left-out$", r".*\.tmp$"])
pyinotifyd.add_watch(path=[TREE + "/once", TREE + "/on[x]*"], event_map=rest)
pyinotifyd.add_watch(path=TREE + "/files", event_map=files, rec=True, auto_add=True)
pyinotifyd.add_watch(watch=Watch(path=TREE + "/now", event_map=now, rec=True))
'''

# What the tree has at the beginning.
DIRECTORIES = ["tasks/a/b", "tasks/left-out", "once", "files/d/e", "now/x", "outside"]


class Failure(Exception):
    """The two do not do the same."""


def run(command, **options):
    """Runs a program that has to succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        raise Failure("%s: exit status %d\n%s" % (
            " ".join(command), done.returncode, done.stdout.decode(errors="replace")))
    return done.stdout.decode(errors="replace")


def peer():
    """pyinotifyd's program, installed when it is not there."""
    program = os.path.join(VENV, "bin/pyinotifyd")
    if not os.path.exists(program):
        run([sys.executable, "-m", "venv", VENV])
        run([os.path.join(VENV, "bin/pip"), "install", "--quiet", "setuptools<80", "wheel"])
        run([os.path.join(VENV, "bin/pip"), "install", "--quiet", "--no-build-isolation", "pyinotifyd==0.0.9"])
    return program


def wait_for(condition, what):
    """Waits until the condition holds."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise Failure("still not: " + what)
        time.sleep(0.02)


class Side:
    """One daemon with a tree of its own."""

    def __init__(self, name, folder):
        self.name, self.folder = name, os.path.join(folder, name)
        self.tree, self.out = os.path.join(self.folder, "tree"), os.path.join(self.folder, "out")
        self.log = os.path.join(self.folder, "log")
        for directory in DIRECTORIES:
            os.makedirs(os.path.join(self.tree, directory))
        self.env = dict(os.environ, TREE=self.tree, OUT=self.out, PYTHONUNBUFFERED="1")
        self.config = os.path.join(self.folder, "config.py")
        with open(self.config, "w") as file:
            file.write(CONFIG)

    def start(self, command, ready):
        """Starts the daemon and waits until it watches."""
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.env, cwd="/")
        try:
            wait_for(lambda: self.process.poll() is not None or ready(self), self.name + " is ready")
        except Failure as failure:
            raise Failure("%s\n%s" % (failure, self.logged())) from None
        if self.process.poll() is not None:
            raise Failure("%s has ended:\n%s" % (self.name, self.logged()))

    def logged(self):
        """Its log so far."""
        with open(self.log, errors="replace") as file:
            return file.read()

    def stop(self):
        """Ends it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE_S)

    def watches(self):
        """How many directories it watches."""
        count = 0
        folder = "/proc/%d/fdinfo" % self.process.pid
        for name in os.listdir(folder):
            try:
                with open(os.path.join(folder, name)) as file:
                    count += file.read().count("inotify wd:")
            except FileNotFoundError:
                pass  # closed meanwhile
        return count

    def tasks(self):
        """The tasks that ran, without the tree's own path, in no order."""
        try:
            with open(self.out, errors="surrogateescape") as file:
                return sorted(file.read().replace(self.tree, "").splitlines())
        except FileNotFoundError:
            return []

    def disk(self):
        """Every path with its mode and bytes."""
        found = []
        for folder, names, files in os.walk(self.tree):
            for name in names + files:
                path = os.path.join(folder, name)
                mode = stat.S_IMODE(os.lstat(path).st_mode)
                text = open(path, "rb").read() if name in files else b""
                found.append("%s %04o %r" % (path[len(self.tree):], mode, text))
        return sorted(found)


class Scenario:
    """Random changes, made on both trees. Within a group they follow each other closely; before the next
    group everything comes to rest. What starts a task at once touches no path twice in a group."""

    def __init__(self, seed, sides):
        self.random, self.sides, self.count = random.Random(seed), sides, 0
        self.done = []

    def each(self, operation, *paths):
        """Does the same in both trees."""
        self.done.append("%s %s" % (operation.__name__, " ".join(paths)))
        for side in self.sides:
            operation(*[os.path.join(side.tree, path) for path in paths])

    def write(self, path):
        """Creates or rewrites a file."""
        self.count += 1
        text = b"%d\n" % self.count

        def write(full):
            with open(full, "wb") as file:
                file.write(text)
        self.each(write, path)

    def exists(self, path):
        return os.path.exists(os.path.join(self.sides[0].tree, path))

    def name(self, folder, ending=""):
        return os.path.join(folder, self.random.choice(["1", "2", "it's 3", "$4", "5.tmp"]) + ending)

    def act(self):
        """One change to what has a delay."""
        kind = self.random.choice(["tasks"] * 4 + ["files"] * 2 + ["once"])
        if kind == "tasks":
            folder = self.random.choice(["tasks", "tasks/a", "tasks/a/b", "tasks/left-out"])
            path = self.name(folder)
            choice = self.random.randrange(5)
            if choice < 3 or not self.exists(path):
                self.write(path)
            elif choice == 3:
                self.each(os.unlink, path)
            else:
                other = self.name(self.random.choice(["tasks", "tasks/a/b", "outside"]), "-moved")
                self.each(os.rename, path, other)
        elif kind == "once":
            path = self.name("once")
            if self.exists(path) and self.random.randrange(3) == 0:
                self.each(os.unlink, path)
            else:
                self.write(path)
        else:
            folder = self.random.choice(["files", "files/d", "files/d/e"])
            self.write(self.name(folder, self.random.choice([".mv", ".cp", ".rm", ".no"])))

    def act_now(self, number):
        """One change whose task has no delay."""
        path = "now/x/%d-%d" % (self.count, number)
        if self.random.randrange(3) == 0:
            self.each(os.mkdir, path + "-dir")
        else:
            self.write("outside/%d" % number)
            self.each(os.rename, "outside/%d" % number, path)

    def run(self, groups):
        """All of it."""
        for _ in range(groups):
            for number in range(self.random.randrange(2, 8)):
                self.act()
                if self.random.randrange(3) == 0:
                    self.act_now(number)
                time.sleep(self.random.choice([0, SHORT_S, SHORT_S]))
            if self.random.randrange(3) == 0:
                self.each(os.mkdir, "tasks/a/new%d" % self.count)
            time.sleep(LONG_S)


def compare(what, theirs, ours):
    """Fails with the lines that only one of them has."""
    theirs, ours = list(theirs), list(ours)
    for line in list(theirs):
        if line in ours:
            theirs.remove(line)
            ours.remove(line)
    lines = ["only pyinotifyd: " + line for line in theirs] + ["only rinotifyd:  " + line for line in ours]
    if lines:
        raise Failure("%s differ:\n%s" % (what, "\n".join(lines)))


def play(seed, groups, binary, program, folder):
    """Runs one seed."""
    sides = theirs, ours = Side("pyinotifyd", folder), Side("rinotifyd", folder)
    target = os.path.join(ours.folder, "conf")
    run([sys.executable, CONVERT, "-o", target, ours.config], env=ours.env)
    config = os.path.join(target, "rinotifyd.conf")
    run([binary, "-t", "-c", config])
    scenario = Scenario(seed, sides)
    try:
        theirs.start([program, "-c", theirs.config], lambda side: side.watches() >= 9)
        ours.start([binary, "-c", config], lambda side: " ready " in side.logged())
        scenario.run(groups)
    finally:
        for side in sides:
            if hasattr(side, "process"):
                side.stop()
    try:
        compare("tasks", theirs.tasks(), ours.tasks())
        compare("what is on disk", theirs.disk(), ours.disk())
        if len(ours.tasks()) < groups:
            raise Failure("only %d tasks ran" % len(ours.tasks()))
    except Failure as failure:
        raise Failure("seed %d: %s\n%s\n--- pyinotifyd\n%s\n--- rinotifyd\n%s" % (
            seed, failure, "\n".join(scenario.done), theirs.logged(), ours.logged())) from None
    return len(ours.tasks())


def check_examples(binary, folder):
    """The manual's examples and the default configuration, with everything in it switched on."""
    site = run([os.path.join(VENV, "bin/python"), "-c", "import pyinotifyd; print(pyinotifyd.__path__[0])"]).strip()
    with open(os.path.join(site, "misc/config.py.default")) as file:
        default = file.read()
    with open(os.path.join(os.path.dirname(site), "pyinotifyd-0.0.9.dist-info/METADATA")) as file:
        manual = file.read()
    examples = re.findall(r"```python\n(.*?)```", manual, re.S)
    if len(examples) < 10:
        raise Failure("only %d examples in the manual" % len(examples))
    reference, whole = examples[:-3], examples[-3:]
    # The parts of the reference build upon each other.
    configs = whole + ["\n".join(reference), default, re.sub(r"^#(?=[^#\s]|    )", "", default, flags=re.M)]
    for number, text in enumerate(configs):
        path = os.path.join(folder, "example%d.py" % number)
        with open(path, "w") as file:
            file.write(text)
        target = os.path.join(folder, "example%d" % number)
        run([sys.executable, CONVERT, "-o", target, path])
        run([binary, "-t", "-c", os.path.join(target, "rinotifyd.conf")])
    return len(configs)


def main():
    """Everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--groups", type=int, default=5)
    parser.add_argument("binary")
    args = parser.parse_args()
    program, failures = peer(), []
    # A configuration that root reads must not be where others can write.
    base = os.path.join(VENV, "runs")
    os.makedirs(base, exist_ok=True)
    folder = tempfile.mkdtemp(dir=base)
    binary = os.path.abspath(args.binary)

    def attempt(what, work):
        try:
            print("%s: %s" % (what, work()), flush=True)
        except Failure as failure:
            failures.append(failure)
            print("FAILED %s" % failure, flush=True)

    attempt("examples converted", lambda: check_examples(binary, folder))

    def one(seed):
        attempt("seed %d, tasks that ran in both" % seed, lambda: play(
            seed, args.groups, binary, program, os.path.join(folder, str(seed))))

    threads = [threading.Thread(target=one, args=(args.first + number,)) for number in range(args.seeds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shutil.rmtree(folder)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
