//! Commands that evaluate their arguments once more.
//!
//! A value that is an argument of `eval`, or a part of the code that another shell or interpreter is
//! given, becomes code whatever quotes were around it. Such commands are known here by name. Where a
//! program has many ways to be told its code, this errs on the side of refusing.

use std::ops::Range;

/// A word of a command.
#[derive(Debug, Default)]
pub struct Argument {
    /// What it holds beside its placeholders and expansions.
    pub text: Vec<u8>,
    /// It begins with a placeholder.
    pub begins_with_value: bool,
    /// It holds a value that a name decides.
    pub has_value: bool,
    /// The same, and that is not quoted for a further shell.
    pub has_raw_value: bool,
    /// Its placeholders, for the caller.
    pub found: Range<usize>,
}

/// Why a value cannot stand in an expression.
pub const ARITHMETIC: &str = "stands in arithmetic, which evaluates it again, so that a name could run a \
                              command: only {task_id}, {is_dir} and {attempt} can; a subshell in a subshell \
                              is written ( (";
const EVALUATES: &str = "is given to a command that evaluates it again, so that a name could run a command";
const CODE: &str = "would be a part of the code of another program, so that a name could run a command: give \
                    it behind the code as an argument, or let the code read the environment variable \
                    RINOTIFYD_PATH";

/// What is said of a value that another machine's shell reads.
pub fn remote_warning(name: &str) -> String {
    let quoted = name.replace('}', "@Q}");
    format!(
        "{name} is read once more by the shell of the other machine, so that a name could run a command there: \
         write {quoted}, which is quoted for that shell"
    )
}

/// Why the command of an exec scheduler is refused.
pub const EXEC_CODE: &str = "a file name would be a part of the code of a shell or another program here, so \
                             that it could run a command: give the placeholder as an argument behind the \
                             code, where sh has it as \"$1\"";

/// A program that takes code.
struct Interpreter {
    /// What its name begins with; behind that only digits and dots may stand.
    names: &'static [&'static str],
    /// Options behind which code stands.
    code: &'static [u8],
    /// Options behind which something else stands.
    takes: &'static [u8],
    /// So many arguments may stand before such an option.
    operands: usize,
    /// Without such an option, the first argument is code.
    first_is_code: bool,
}

const fn interpreter(
    names: &'static [&'static str],
    code: &'static [u8],
    takes: &'static [u8],
    operands: usize,
) -> Interpreter {
    Interpreter { names, code, takes, operands, first_is_code: false }
}

const INTERPRETERS: [Interpreter; 11] = [
    interpreter(
        &[
            "sh", "bash", "dash", "ash", "ksh", "mksh", "lksh", "pdksh", "yash", "zsh", "rbash", "fish",
            "csh", "tcsh",
        ],
        b"c",
        b"oO",
        0,
    ),
    interpreter(&["su", "runuser", "script"], b"c", b"sgGwTEIOB", 2),
    interpreter(&["flock"], b"c", b"wE", 1),
    interpreter(&["env"], b"S", b"uC", 0),
    interpreter(&["python", "pypy"], b"c", b"WX", 0),
    interpreter(&["perl"], b"eE", b"", 0),
    interpreter(&["ruby"], b"e", b"IrCE", 0),
    interpreter(&["php"], b"rBRE", b"dczS", 0),
    interpreter(&["node", "nodejs", "lua", "luajit"], b"ep", b"lr", 0),
    Interpreter {
        names: &["awk", "gawk", "mawk", "nawk", "original-awk"],
        code: b"e",
        takes: b"Fvfil",
        operands: 0,
        first_is_code: true,
    },
    Interpreter { names: &["sed", "gsed"], code: b"e", takes: b"fl", operands: 0, first_is_code: true },
];

/// Long options behind which code stands, and those behind which something else does.
const LONG_CODE: [&[u8]; 6] =
    [b"--command", b"--split-string", b"--expression", b"--source", b"--eval", b"--session-command"];
const LONG_TAKES: [&[u8]; 10] = [
    b"--rcfile",
    b"--init-file",
    b"--emulate",
    b"--file",
    b"--assign",
    b"--field-separator",
    b"--shell",
    b"--timeout",
    b"--unset",
    b"--chdir",
];

/// Builtins whose arguments are evaluated.
const EVALUATORS: [&[u8]; 3] = [b"eval", b"trap", b"alias"];

/// Builtins whose arguments are names of variables, with subscripts.
const NAMERS: [&[u8]; 6] = [b"unset", b"read", b"mapfile", b"readarray", b"getopts", b"let"];

/// Builtins that give values to variables, which may be evaluated with some options.
const DECLARERS: [&[u8]; 5] = [b"export", b"readonly", b"declare", b"typeset", b"local"];

/// What compares numbers, for which some shells evaluate expressions.
const COMPARISONS: [&[u8]; 6] = [b"-eq", b"-ne", b"-lt", b"-le", b"-gt", b"-ge"];

/// The arguments of a shell's simple command whose values are evaluated once more, and why.
pub fn evaluated(words: &[Argument]) -> Vec<(&Argument, &'static str)> {
    if !words.iter().any(|word| word.has_value) {
        return Vec::new();
    }
    let mut found: Vec<_> = code(words).into_iter().map(|word| (word, CODE)).collect();
    let is_before = |word: &Argument| is_before_command(&word.text);
    let start = words.iter().take_while(|word| is_before(word)).count();
    for word in &words[..start] {
        let name_len = word.text.iter().position(|byte| b"[=".contains(byte));
        if word.has_value && name_len.is_some_and(|len| word.text[len] == b'[') {
            found.push((word, ARITHMETIC));
        }
    }
    let Some((name, arguments)) = words[start..].split_first() else { return found };
    let values = || arguments.iter().filter(|word| word.has_value);
    let name = name.text.as_slice();
    if EVALUATORS.contains(&name) {
        found.extend(values().map(|word| (word, EVALUATES)));
    } else if NAMERS.contains(&name) {
        found.extend(values().map(|word| (word, ARITHMETIC)));
    } else if DECLARERS.contains(&name) {
        // Of numbers, or of references to names.
        let is_option = |word: &&Argument| word.text.starts_with(b"-") && !word.begins_with_value;
        let evaluates = arguments
            .iter()
            .filter(is_option)
            .any(|word| word.text.contains(&b'i') || word.text.contains(&b'n'));
        let refused = values().filter(|word| word.begins_with_value || evaluates);
        found.extend(refused.map(|word| (word, ARITHMETIC)));
    }
    let compares = [b"[".as_slice(), b"[[", b"test"].contains(&name);
    for pair in arguments.windows(2) {
        let [one, other] = pair else { continue };
        let names = one.text == b"-v" && (compares || name == b"printf");
        if names || compares && COMPARISONS.contains(&one.text.as_slice()) {
            found.extend(other.has_value.then_some((other, ARITHMETIC)));
        }
        if compares && COMPARISONS.contains(&other.text.as_slice()) {
            found.extend(one.has_value.then_some((one, ARITHMETIC)));
        }
    }
    found
}

/// Whether the name of the command comes behind this word.
fn is_before_command(word: &[u8]) -> bool {
    const WORDS: [&[u8]; 13] = [
        b"then", b"do", b"else", b"elif", b"if", b"while", b"until", b"!", b"{", b"time", b"command",
        b"builtin", b"exec",
    ];
    let name_len = word.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let is_assignment = name_len > 0 && matches!(word.get(name_len), Some(b'=' | b'[' | b'+'));
    is_assignment || WORDS.contains(&word)
}

/// The arguments that are code and hold values. An interpreter may stand behind other programs, such as
/// env or nice.
pub fn code(words: &[Argument]) -> Vec<&Argument> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if let Some(interpreter) = interpreter_of(word) {
            code_of(interpreter, &words[at + 1..], &mut found);
        }
    }
    found
}

fn base_name(program: &[u8]) -> &[u8] {
    program.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

fn interpreter_of(word: &Argument) -> Option<&'static Interpreter> {
    let name = base_name(&word.text);
    let is = |known: &&str| {
        let version = name.strip_prefix(known.as_bytes());
        version.is_some_and(|version| version.iter().all(|byte| b"0123456789.".contains(byte)))
    };
    INTERPRETERS.iter().find(|interpreter| interpreter.names.iter().any(is))
}

fn code_of<'a>(interpreter: &Interpreter, arguments: &'a [Argument], found: &mut Vec<&'a Argument>) {
    let (mut is_next_code, mut had_code, mut operands) = (false, false, 0);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let text = argument.text.as_slice();
        let is_option = text.len() > 1 && (text[0] == b'-' || text[0] == b'+') && !argument.begins_with_value;
        if is_option {
            if argument.has_value {
                // Whatever it means, it is a part of an option of an interpreter.
                found.push(argument);
            }
            let long = text.split(|&byte| byte == b'=').next().unwrap_or_default();
            let is_long = text.starts_with(b"--");
            let gives_code = LONG_CODE.contains(&long)
                || !is_long && text[1..].iter().any(|letter| interpreter.code.contains(letter));
            is_next_code |= gives_code;
            had_code |= gives_code;
            let takes = LONG_TAKES.contains(&text)
                || !is_long && text.last().is_some_and(|letter| interpreter.takes.contains(letter));
            if takes && !gives_code {
                arguments.next();
            }
            continue;
        }
        if is_next_code || interpreter.first_is_code && !had_code {
            found.extend(argument.has_value.then_some(argument));
            is_next_code = false;
            had_code = true;
            continue;
        }
        operands += 1;
        if operands > interpreter.operands {
            return;
        }
    }
}

/// Programs that give their arguments to a shell of another machine.
const REMOTE: [&[u8]; 5] = [b"ssh", b"slogin", b"rsh", b"dbclient", b"autossh"];

/// The arguments that another machine's shell reads, as far as their values are not quoted for it.
pub fn remote(words: &[Argument]) -> impl Iterator<Item = &Argument> {
    let is_remote = |at: &usize| {
        let is_option = at.checked_sub(1).is_some_and(|before| words[before].text.starts_with(b"-"));
        REMOTE.contains(&base_name(&words[*at].text)) && !is_option
    };
    let at = (0..words.len()).find(is_remote).map_or(words.len(), |at| at + 1);
    words[at..].iter().filter(|word| word.has_raw_value)
}
