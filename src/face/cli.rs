//! The command line: one table of every flag, from which the parser and `--help` derive.
//!
//! Nothing is printed here. Paths and commands may hold any bytes, while `getopts` takes only UTF-8:
//! arguments go through [`to_text`] before it and [`to_bytes`] after it, which lose nothing.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use getopts::{Fail, HasArg, Matches, Occur, Options};

use super::explain::Asked;
use crate::config::diagnostics::quoted;
use crate::config::events;
use crate::config::inline::Inline;
use crate::config::suggest;
use crate::event::EventKind;
use crate::quote::plain;

/// Where the configuration is unless `-c` says otherwise: `/etc`, or what was set when it was built.
pub const DEFAULT_CONFIG: &str = match option_env!("RINOTIFYD_CONFIG") {
    Some(path) => path,
    None => "/etc/rinotifyd/rinotifyd.conf",
};

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// One letter, or empty.
    pub short: &'static str,
    /// The word behind `--`.
    pub long: &'static str,
    /// What it takes, or empty.
    pub value: &'static str,
    /// What it is to the others.
    pub role: Role,
    /// For `--help`.
    pub help: &'static str,
}

/// What an option is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Says what to do; one of these at most.
    Mode,
    /// Goes with any mode.
    Any,
    /// About a configuration file.
    File,
    /// Goes without a mode only.
    Running,
    /// Goes with installing and uninstalling only.
    Installing,
    /// Part of the form without a file; may be repeated.
    Inline,
    /// As `Inline`, once.
    InlineOnce,
}

/// Every option, in the order of `--help`.
pub static FLAGS: &[Flag] = &[
    flag("c", "config", "FILE", Role::File, "configuration file"),
    flag("d", "debug", "", Role::Any, "log everything"),
    flag("t", "configtest", "", Role::Mode, "test the configuration and exit"),
    flag("n", "dry-run", "", Role::Mode, "run, but log the actions instead of taking them"),
    flag("e", "explain", "EVENT:PATH", Role::Mode, "say what this event would do, and why"),
    flag("l", "list", "", Role::Mode, "list the events and exit"),
    flag("v", "version", "", Role::Mode, "show the version and exit"),
    flag("h", "help", "", Role::Mode, "show this help and exit"),
    flag("", "pidfile", "FILE", Role::Running, "write the process id to this file"),
    flag("w", "watch", "PATH", Role::Inline, "watch this path; no configuration file is read"),
    flag("r", "recursive", "", Role::InlineOnce, "with -w: watch the directories below too"),
    flag(
        "E",
        "event",
        "EVENT",
        Role::Inline,
        "with -w: this event, or complete (the default), changed, gone",
    ),
    flag("D", "delay", "DURATION", Role::InlineOnce, "with -w: wait until the file has been quiet this long"),
    flag("1", "single", "", Role::InlineOnce, "with -w: one task for all paths"),
    flag("X", "exclude", "GLOB", Role::Inline, "with -w: leave out what this shell pattern matches"),
    flag(
        "x",
        "exec",
        "COMMAND",
        Role::InlineOnce,
        "with -w: the shell command to run, such as 'echo {pathname}'",
    ),
    flag("i", "install", "", Role::Mode, "install this program, its manual and its service"),
    flag("u", "uninstall", "", Role::Mode, "remove them; a configuration that was changed stays"),
    flag("", "root", "DIR", Role::Installing, "with -i or -u: below this directory, such as an image"),
];

pub(super) const fn flag(
    short: &'static str,
    long: &'static str,
    value: &'static str,
    role: Role,
    help: &'static str,
) -> Flag {
    Flag { short, long, value, role, help }
}

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Be the daemon.
    Run(Run),
    /// `-t`: read the configuration and say what is wrong with it.
    Test {
        /// What to test.
        setup: Setup,
        /// `-d`
        debug: bool,
    },
    /// `-e`: say what an event would do.
    Explain {
        /// With which configuration.
        setup: Setup,
        /// Which event, of what.
        asked: Asked,
    },
    /// `-i`
    Install(PathBuf),
    /// `-u`
    Uninstall(PathBuf),
    /// `-l`
    List,
    /// `-v`
    Version,
    /// `-h`
    Help,
}

/// How to be the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it does.
    pub setup: Setup,
    /// `-d`
    pub debug: bool,
    /// `-n`
    pub dry_run: bool,
    /// `--pidfile`
    pub pidfile: Option<PathBuf>,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setup {
    /// A file.
    File(PathBuf),
    /// The options. Paths are as typed: `from_command_line` wants them absolute.
    Inline(Inline),
}

/// Options that cannot be understood: exit status 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; see rinotifyd --help", self.0)
    }
}

impl std::error::Error for UsageError {}

pub(super) fn usage<T>(message: impl Into<String>) -> Result<T, UsageError> {
    Err(UsageError(message.into()))
}

/// Reads the arguments that follow the program's name.
///
/// # Errors
///
/// Unknown options, missing values, options that exclude each other, further arguments.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let given = Given::parse(FLAGS, args)?;
    if let Some(argument) = given.arguments().first() {
        return usage(format!("unexpected argument {}", quoted(argument)));
    }
    command(&given, given.mode()?)
}

fn command(given: &Given, mode: &str) -> Result<Command, UsageError> {
    let debug = given.has("debug");
    if !matches!(mode, "" | "dry-run")
        && let Some(flag) = given.of(Role::Running).next()
    {
        return usage(format!("{} needs a running daemon, not --{mode}", flag.title()));
    }
    let installs = matches!(mode, "install" | "uninstall");
    if !installs && let Some(flag) = given.of(Role::Installing).next() {
        return usage(format!("{} needs -i or -u", flag.title()));
    }
    if installs && let Some(flag) = given.about_a_configuration().next() {
        return usage(format!("{} and --{mode} exclude each other", flag.title()));
    }
    let root = || given.value("root").map_or_else(|| PathBuf::from("/"), path);
    match mode {
        "install" => Ok(Command::Install(root())),
        "uninstall" => Ok(Command::Uninstall(root())),
        "list" => Ok(Command::List),
        "version" => Ok(Command::Version),
        "help" => Ok(Command::Help),
        "explain" => Ok(Command::Explain { setup: setup(given)?, asked: asked(given)? }),
        "configtest" => Ok(Command::Test { setup: setup(given)?, debug }),
        _ => Ok(Command::Run(Run {
            setup: setup(given)?,
            debug,
            dry_run: mode == "dry-run",
            pidfile: given.value("pidfile").map(path),
        })),
    }
}

/// `EVENT:PATH`
fn asked(given: &Given) -> Result<Asked, UsageError> {
    let text = given.value("explain").unwrap_or_default();
    let Some(colon) = text.iter().position(|&byte| byte == b':') else {
        return usage("-e needs EVENT:PATH");
    };
    let (name, path) = (&text[..colon], text[colon + 1..].to_vec());
    let Some(kind) = str::from_utf8(name).ok().and_then(EventKind::from_name) else {
        let hint = events::hint(name, "ask about one event");
        return usage(format!("unknown event {}{hint}", quoted(name)));
    };
    if path.is_empty() || path.contains(&0) {
        return usage("-e needs EVENT:PATH");
    }
    Ok(Asked { kind, path })
}

/// A file, or the options that stand for one.
fn setup(given: &Given) -> Result<Setup, UsageError> {
    let inline = [Role::Inline, Role::InlineOnce].into_iter().flat_map(|role| given.of(role)).next();
    let Some(first) = inline else {
        let file = given.value("config").unwrap_or_else(|| DEFAULT_CONFIG.into());
        return Ok(Setup::File(path(file)));
    };
    if let Some(file) = given.of(Role::File).next() {
        return usage(format!("{} and {} exclude each other", file.title(), first.title()));
    }
    let (watch, command) = (given.values("watch"), given.value("exec"));
    let Some(command) = command else { return usage(format!("{} needs -x COMMAND", first.title())) };
    if watch.is_empty() {
        return usage(format!("{} needs -w PATH", first.title()));
    }
    Ok(Setup::Inline(Inline {
        watch,
        recursive: given.has("recursive"),
        events: given.values("event"),
        delay: given.value("delay"),
        single: given.has("single"),
        exclude: given.values("exclude"),
        command,
    }))
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

impl Flag {
    /// `-c`, or `--pidfile` where there is no letter.
    fn title(&self) -> String {
        if self.short.is_empty() { format!("--{}", self.long) } else { format!("-{}", self.short) }
    }

    /// A switch may be given twice, which says nothing new.
    fn occurs(&self) -> Occur {
        if self.value.is_empty() || self.role == Role::Inline { Occur::Multi } else { Occur::Optional }
    }
}

/// What was given, by the long names of the options.
pub(super) struct Given {
    flags: &'static [Flag],
    matches: Matches,
}

impl Given {
    /// Reads arguments by a table of options.
    pub(super) fn parse(
        flags: &'static [Flag],
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, UsageError> {
        let mut options = Options::new();
        for flag in flags {
            let takes = if flag.value.is_empty() { HasArg::No } else { HasArg::Yes };
            options.opt(flag.short, flag.long, flag.help, flag.value, takes, flag.occurs());
        }
        let args: Vec<String> = args.into_iter().map(|arg| to_text(arg.as_bytes())).collect();
        let matches = options.parse(&args).map_err(|fail| UsageError(explain(&fail, flags)))?;
        Ok(Self { flags, matches })
    }

    /// The mode, by its long name; empty when none was given.
    pub(super) fn mode(&self) -> Result<&'static str, UsageError> {
        let modes: Vec<_> = self.of(Role::Mode).collect();
        if let [first, second, ..] = modes.as_slice() {
            return usage(format!("{} and {} exclude each other", first.title(), second.title()));
        }
        Ok(modes.first().map_or("", |mode| mode.long))
    }

    /// What stands between and behind the options.
    pub(super) fn arguments(&self) -> Vec<Vec<u8>> {
        self.matches.free.iter().map(|text| to_bytes(text)).collect()
    }

    pub(super) fn has(&self, long: &str) -> bool {
        self.matches.opt_present(long)
    }

    fn of(&self, role: Role) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().filter(move |flag| flag.role == role && self.has(flag.long))
    }

    fn about_a_configuration(&self) -> impl Iterator<Item = &'static Flag> {
        [Role::File, Role::Inline, Role::InlineOnce].into_iter().flat_map(|role| self.of(role))
    }

    fn values(&self, long: &str) -> Vec<Vec<u8>> {
        self.matches.opt_strs(long).iter().map(|text| to_bytes(text)).collect()
    }

    pub(super) fn value(&self, long: &str) -> Option<Vec<u8>> {
        self.matches.opt_str(long).map(|text| to_bytes(&text))
    }
}

fn explain(fail: &Fail, flags: &[Flag]) -> String {
    let dashed = |name: &str| {
        let dashes = if name.chars().count() == 1 { "-" } else { "--" };
        format!("{dashes}{}", plain(&to_bytes(name)))
    };
    match fail {
        Fail::UnrecognizedOption(name) => {
            let meant = suggest::nearest(&to_bytes(name), flags.iter().map(|flag| flag.long));
            let hint = meant.map(|meant| format!(", did you mean --{meant}?")).unwrap_or_default();
            format!("unknown option {}{hint}", dashed(name))
        }
        Fail::ArgumentMissing(name) => format!("{} needs a value", dashed(name)),
        Fail::OptionMissing(name) => format!("{} is missing", dashed(name)),
        Fail::OptionDuplicated(name) => format!("{} may be given once only", dashed(name)),
        Fail::UnexpectedArgument(name) => format!("{} takes no value", dashed(name)),
    }
}

/// First of the 128 characters that stand for the bytes 0x80 to 0xff: the end of Unicode's last
/// private use plane, where no script and no font has anything.
const STAND_IN: u32 = 0x10_ff80;

/// Bytes as text. What is not UTF-8 becomes stand-ins, byte by byte; so do characters that are
/// stand-ins themselves, which makes it reversible.
fn to_text(bytes: &[u8]) -> String {
    let stand_in = |byte: &u8| char::from_u32(STAND_IN + u32::from(byte & 0x7f)).unwrap_or('?');
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if u32::from(c) < STAND_IN {
                text.push(c);
            } else {
                text.extend(c.encode_utf8(&mut [0; 4]).as_bytes().iter().map(stand_in));
            }
        }
        text.extend(chunk.invalid().iter().map(stand_in));
    }
    text
}

/// What [`to_text`] was given.
fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for c in text.chars() {
        match u32::from(c).checked_sub(STAND_IN).and_then(|low| u8::try_from(low).ok()) {
            Some(low) => bytes.push(low | 0x80),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// What `--help` shows.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Usage: rinotifyd [-c FILE] [-d] [--pidfile FILE] [-t | -n | -e EVENT:PATH | -l | -v | -h]\n       \
         rinotifyd [-d] [-t | -n | -e EVENT:PATH] -w PATH [-r] [-E EVENT] [-D DURATION] [-1]\n                 \
         [-X GLOB] -x COMMAND\n       \
         rinotifyd -i | -u [--root DIR]\n\n\
         Watches directories with inotify and runs tasks.\n\n",
    );
    FLAGS.iter().for_each(|flag| text.push_str(&flag.line()));
    text.push_str(&format!("\nThe configuration file is {DEFAULT_CONFIG} unless -c names another.\n"));
    text
}

impl Flag {
    /// Its line of the help.
    pub(super) fn line(&self) -> String {
        let (dash, comma) = if self.short.is_empty() { ("", ' ') } else { ("-", ',') };
        let names = format!("{dash:>3}{:>1}{comma} --{} {}", self.short, self.long, self.value);
        format!("{names:<28}{}\n", self.help)
    }
}

/// What `--version` shows.
#[must_use]
pub fn version(program: &str) -> String {
    format!("{program} {}\n", env!("CARGO_PKG_VERSION"))
}

/// What `--list` shows.
#[must_use]
pub fn events() -> String {
    EventKind::ALL.iter().map(|kind| format!("{:<17} {}\n", kind.name(), kind.help())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(args: &str) -> Result<Command, UsageError> {
        parse(args.split_whitespace().map(OsString::from))
    }

    fn check(args: &str, expected: Command) {
        assert_eq!(read(args), Ok(expected), "{args}");
    }

    fn refuse(args: &str, expected: &str) {
        let shown = read(args).map_err(|error| error.to_string());
        assert_eq!(shown, Err(format!("{expected}; see rinotifyd --help")), "{args}");
    }

    fn run(file: &str) -> Run {
        Run { setup: Setup::File(file.into()), debug: false, dry_run: false, pidfile: None }
    }

    fn inline() -> Inline {
        Inline { watch: vec![b"/a".to_vec()], command: b"id".to_vec(), ..Inline::default() }
    }

    #[test]
    fn modes() {
        check("", Command::Run(run(DEFAULT_CONFIG)));
        check("-c f", Command::Run(run("f")));
        check("--config=f -d -d", Command::Run(Run { debug: true, ..run("f") }));
        check("-nc f", Command::Run(Run { dry_run: true, ..run("f") }));
        let pidfile = Some("p".into());
        check("--pidfile p", Command::Run(Run { pidfile, ..run(DEFAULT_CONFIG) }));
        check("-t -c f", Command::Test { setup: Setup::File("f".into()), debug: false });
        let asked = Asked { kind: EventKind::Open, path: b"/a:b/".to_vec() };
        check("-c f -e IN_OPEN:/a:b/", Command::Explain { setup: Setup::File("f".into()), asked });
        check("-l", Command::List);
        check("-i", Command::Install("/".into()));
        check("-d --install --root=/mnt", Command::Install("/mnt".into()));
        check("-u --root /mnt", Command::Uninstall("/mnt".into()));
        check("-v", Command::Version);
        check("--help", Command::Help);
    }

    #[test]
    fn the_form_without_a_file() {
        let setup = |inline| Command::Run(Run { setup: Setup::Inline(inline), ..run("") });
        check("-w /a -x id", setup(inline()));
        let full = Inline {
            watch: vec![b"/a".to_vec(), b"b".to_vec()],
            recursive: true,
            events: vec![b"IN_CREATE".to_vec(), b"IN_DELETE".to_vec()],
            delay: Some(b"5s".to_vec()),
            single: true,
            exclude: vec![b"*.tmp".to_vec(), b".*".to_vec()],
            command: b"id".to_vec(),
        };
        check(
            "-w /a --watch b -r -E IN_CREATE --event IN_DELETE -D 5s -1 -X *.tmp --exclude .* -x id",
            setup(full),
        );
        check("-t -w /a -x id", Command::Test { setup: Setup::Inline(inline()), debug: false });
    }

    #[test]
    fn every_refusal() {
        refuse("x", "unexpected argument \"x\"");
        refuse("--confg f", "unknown option --confg, did you mean --config?");
        refuse("-y", "unknown option -y");
        refuse("-c", "-c needs a value");
        refuse("-c a -c b", "--config may be given once only");
        refuse("--debug=1", "--debug takes no value");
        refuse("-t -n", "-t and -n exclude each other");
        refuse("-l -v", "-l and -v exclude each other");
        refuse("-t --pidfile p", "--pidfile needs a running daemon, not --configtest");
        refuse("-c f -w /a -x id", "-c and -w exclude each other");
        refuse("-w /a", "-w needs -x COMMAND");
        refuse("-x id", "-x needs -w PATH");
        refuse("-r", "-r needs -x COMMAND");
        refuse("-w /a -x id -D 1 -D 2", "--delay may be given once only");
        for text in ["IN_OPEN", "IN_OPEN:", "/a"] {
            refuse(&format!("-e {text}"), "-e needs EVENT:PATH");
        }
        refuse("-e IN_CLOSE:/a", "unknown event \"IN_CLOSE\": write IN_CLOSE_WRITE and IN_CLOSE_NOWRITE");
        refuse("-e MODIFY:/a", "unknown event \"MODIFY\", did you mean IN_MODIFY?");
        refuse("-e IN_WRITE_CLOSE:/a", "unknown event \"IN_WRITE_CLOSE\", did you mean IN_CLOSE_WRITE?");
        refuse("-e IN_OPEN:/a -e IN_OPEN:/b", "--explain may be given once only");
        refuse("-e IN_OPEN:/a -t", "-t and -e exclude each other");
        refuse("-i -u", "-i and -u exclude each other");
        refuse("-i -c f", "-c and --install exclude each other");
        refuse("-u -w /a -x id", "-w and --uninstall exclude each other");
        refuse("-i --pidfile p", "--pidfile needs a running daemon, not --install");
        refuse("--root /mnt", "--root needs -i or -u");
        refuse("-t --root /mnt", "--root needs -i or -u");
    }

    #[test]
    fn bytes_that_are_not_text_arrive_unchanged() {
        let args = [b"-w".as_slice(), b"/\xff\xc3", b"-x", b"a \x80\xf4\x8f\xbf\xbf"];
        let parsed = parse(args.map(|arg| OsString::from_vec(arg.to_vec()))).unwrap();
        let Command::Run(Run { setup: Setup::Inline(inline), .. }) = parsed else { panic!("{parsed:?}") };
        assert_eq!(inline.watch, [b"/\xff\xc3"]);
        assert_eq!(inline.command, b"a \x80\xf4\x8f\xbf\xbf");
        let error = parse([OsString::from_vec(b"--\xff\x1b".to_vec())]).unwrap_err();
        assert_eq!(error.0, "unknown option --\\xff\\x1b");
    }

    #[test]
    fn help_names_every_option_that_exists() {
        let help = help();
        for flag in FLAGS {
            assert!(help.contains(&format!("--{}", flag.long)) && help.contains(flag.help), "{}", flag.long);
        }
        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
        assert_eq!(events().lines().count(), 15);
        assert!(version("rinotifyd").starts_with("rinotifyd "));
    }

    proptest! {
        #[test]
        fn the_mapping_loses_nothing(bytes: Vec<u8>, text: String) {
            prop_assert_eq!(to_bytes(&to_text(&bytes)), bytes);
            prop_assert_eq!(to_bytes(&to_text(text.as_bytes())), text.into_bytes());
        }

        #[test]
        fn any_arguments_are_judged(args: Vec<Vec<u8>>) {
            let _ = parse(args.into_iter().map(OsString::from_vec));
        }
    }
}
