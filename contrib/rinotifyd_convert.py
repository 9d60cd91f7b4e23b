"""What the converters share: commands in which names are quoted, and a test of what they wrote.

Imported by from-pyinotifyd and from-incrontab, which therefore need this file beside them.
"""

import os
import re
import shutil
import subprocess
import tempfile

# What rinotifyd replaces in a command.
PLACEHOLDERS = "maskname pathname src_pathname dirname filename task_id is_dir".split()
OWN = re.compile(r"\{(?:%s)\}" % "|".join(PLACEHOLDERS))
INNER_SHELL = re.compile(r"(?:^|[\s;&|(`/])(?:ba|da|a|k|z)?sh(?:\s+-\w+)*\s+-\w*c\s+$")
READ_AGAIN = re.compile(r"(?:^|[\s;&|(`/])(ssh|su|eval|runuser)\s[^;&|\n]*$")
HERE_DOCUMENT = re.compile(r"<<(-?)\s*(['\"\\]?)(\w+)['\"]?")
PLAIN, PAREN, SINGLE, DOUBLE, BACK, BRACES, ARITHMETIC, COMMENT = range(8)
OPEN = (PLAIN, PAREN, BACK, BRACES)


class Command:
    """A shell command whose placeholders are put where rinotifyd, or the shell, quotes their values.

    `values` has for each placeholder of the source what stands for it outside of quotes, such as a
    placeholder of rinotifyd, and what stands for it between double quotes, such as a variable. A command
    for a script gets the latter alone. A zero byte stands for a dollar sign that is no placeholder. What a
    reader should know is in `notes`.
    """

    def __init__(self, text, values, script=False):
        self.text, self.values, self.script = text, values, script
        self.tokens = re.compile("|".join(re.escape(token) for token in sorted(values, key=len, reverse=True)))
        self.out, self.at, self.stack, self.notes, self.documents = [], 0, [PLAIN], [], []
        self.inner, self.fresh = [False], False

    def convert(self):
        """The command."""
        while self.at < len(self.text):
            self.step()
        return "".join(self.out)

    def push(self, context, text):
        """A quote or bracket opens."""
        self.inner.append(context in (SINGLE, DOUBLE) and bool(INNER_SHELL.search(self.text[:self.at])))
        self.stack.append(context)
        self.copy(text)
        self.fresh = context in (SINGLE, DOUBLE)

    def pop(self, text):
        """It closes."""
        self.stack.pop()
        self.inner.pop()
        self.copy(text)

    def copy(self, text):
        """Takes this much of the command as it is."""
        self.out.append(text)
        self.at += len(text)
        self.fresh = False

    def step(self):
        """Takes what stands here."""
        here, context = self.text[self.at:].replace("\0", "$"), self.stack[-1]
        token, own = self.tokens.match(self.text, self.at), OWN.match(here)
        char = here[0]
        if token:
            self.value(token.group(0))
        elif own and not self.script:
            # Text that only looks like a placeholder: two quotes keep it from being one.
            quotes = '""' if context == DOUBLE else "''"
            self.out.append(own.group(0)[:2] + quotes + own.group(0)[2:])
            self.at += own.end()
            self.fresh = False
        elif context == SINGLE:
            self.pop(char) if char == "'" else self.copy(char)
        elif context == COMMENT:
            self.pop(char) if char == "\n" else self.copy(char)
        elif char == "\\" and len(here) > 1 and not self.tokens.match(self.text, self.at + 1):
            self.copy(here[:2])
        elif context == ARITHMETIC:
            self.pop("))") if here.startswith("))") else self.copy(char)
        elif context == DOUBLE and char == '"':
            self.pop(char)
        else:
            self.shell(here, context)

    def shell(self, here, context):
        """What stands outside of quotes, or is special within double quotes too."""
        char = here[0]
        if here.startswith("$(("):
            self.push(ARITHMETIC, "$((")
        elif here.startswith("$("):
            self.push(PAREN, "$(")
        elif here.startswith("${"):
            self.push(BRACES, "${")
        elif char == "`":
            self.pop(char) if context == BACK else self.push(BACK, char)
        elif context == DOUBLE:
            self.copy(char)
        elif char == '"':
            self.push(DOUBLE, char)
        elif char == "'" and not (context == BRACES and DOUBLE in self.stack):
            self.push(SINGLE, char)
        elif char == "(" and context != BRACES:
            self.push(PAREN, char)
        elif (char == ")" and context == PAREN) or (char == "}" and context == BRACES):
            self.pop(char)
        elif char == "#" and context != BRACES and (not self.at or self.text[self.at - 1] in " \t\n;&|()"):
            self.push(COMMENT, char)
        elif here.startswith("<<") and context in (PLAIN, PAREN) and HERE_DOCUMENT.match(here):
            mark = HERE_DOCUMENT.match(here)
            self.documents.append(mark)
            self.copy(mark.group(0))
        elif char == "\n" and self.documents:
            self.copy(char)
            self.document(self.documents.pop(0))
        else:
            self.copy(char)

    def document(self, mark):
        """A here-document: the shell expands variables in it, unless its mark is quoted."""
        tabs, quoted, word = mark.groups()
        lines = self.text[self.at:].split("\n")
        ends = [index for index, line in enumerate(lines) if (line.lstrip("\t") if tabs else line) == word]
        body = "\n".join(lines[:ends[0]] if ends else lines)
        self.at += len(body)
        if quoted and self.tokens.search(body):
            self.notes.append("the here-document %s is quoted, so the shell replaces nothing in it" % word)
        elif not quoted:
            body = self.tokens.sub(lambda match: self.values[match.group(0)][1], body)
        self.out.append(body)

    def value(self, token):
        """Puts a value here."""
        again = READ_AGAIN.search(self.text[:self.at])
        if again:
            self.notes.append("%s reads the command once more, so a file name can become code there" % again.group(1))
        context, inner = self.stack[-1], self.inner[-1]
        plain, variable = self.values[token]
        plain = '"%s"' % variable if self.script else plain
        self.at += len(token)
        escaped = BACK in self.stack and self.text[:self.at - len(token)].endswith("\\")
        if context == COMMENT:
            put = token.strip("{}")
        elif escaped:
            # A backslash between backquotes would take the quotes away: rinotifyd refuses the placeholder.
            put = plain
        elif not variable:
            put = ""
        elif inner:
            # The code of another shell, which has the value in its environment.
            put = '"%s"' % variable
            put = re.sub(r'([\\"$`])', r"\\\1", put) if context == DOUBLE else put
        elif context == SINGLE and BACK not in self.stack:
            return self.between("'", plain)
        elif context == SINGLE:
            return self.between("'", '"%s"' % variable)
        elif context == DOUBLE and (self.script or BACK in self.stack):
            put = variable
        elif context == DOUBLE:
            return self.between('"', plain)
        elif context == BRACES and DOUBLE in self.stack:
            put = variable
        elif BACK in self.stack or context == BRACES:
            put = '"%s"' % variable
        else:
            put = plain
        self.out.append(put)
        self.fresh = False

    def between(self, quote, put):
        """Closes the quotes before the value, and opens them again behind it."""
        if self.fresh:
            self.out.pop()
        else:
            self.out.append(quote)
        self.out.append(put)
        self.fresh = False
        if self.text[self.at:self.at + 1] == quote:
            self.stack.pop()
            self.inner.pop()
            self.at += 1
        else:
            self.out.append(quote)
            self.fresh = True


NAME = re.compile(r"[A-Za-z0-9_.-]+")


class LogNames:
    """Names that rinotifyd takes, one for each of these: names that it takes already stay as they are."""

    def __init__(self, names):
        names = list(dict.fromkeys(str(name) for name in names))
        self.names = {name: name for name in names if NAME.fullmatch(name)}
        for name in names:
            base = re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "_"
            taken, number = base, 1
            while name not in self.names and taken in self.names.values():
                number += 1
                taken = "%s%d" % (base, number)
            self.names.setdefault(name, taken)

    def of(self, name):
        """The name to write."""
        return self.names[str(name)]


def find_rinotifyd(given):
    """The program that tests the configuration; none when it is not installed."""
    return given or shutil.which("rinotifyd", path=os.pathsep.join(
        [os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"]))


def check(program, text, shown):
    """What `rinotifyd -t` has against a configuration; nothing when it loads. Raises OSError.

    Only root may set users: others test the rest.
    """
    if os.geteuid() != 0:
        text = re.sub(r"(?m)^(user|group) = .*$", "# \\g<0>", text)
    # A directory that only its owner can write to, as rinotifyd wants it for root.
    with tempfile.TemporaryDirectory(prefix="rinotifyd-") as folder:
        path = os.path.join(folder, "rinotifyd.conf")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        done = subprocess.run([program, "-t", "-c", path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, check=False)
    said = done.stderr.decode(errors="surrogateescape").replace(path, shown)
    return said.strip() or "status %d" % done.returncode if done.returncode else None


def report(own, problems, program, text, shown, stderr):
    """Says what is not converted and whether the configuration loads; returns the exit status."""
    for problem in problems:
        print("%s: not converted: %s" % (own, problem), file=stderr)
    program = find_rinotifyd(program)
    if program is None:
        print("%s: rinotifyd is not installed here: test the configuration with rinotifyd -t" % own, file=stderr)
        return 3 if problems else 0
    try:
        errors = check(program, text, shown)
    except OSError as error:
        print("%s: %s: %s: test the configuration with rinotifyd -t" % (own, program, error.strerror), file=stderr)
        return 3 if problems else 0
    if errors:
        print("%s: rinotifyd does not load the configuration:\n%s" % (own, errors), file=stderr)
    return 3 if problems or errors else 0
