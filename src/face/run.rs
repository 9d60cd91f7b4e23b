//! Carries out what the command line says, up to the daemon's loop.

use std::env;
use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::cli::{self, Command, Setup};
use super::count::{self, Count};
use super::ctl;
use super::exit::{Exit, complain, print};
use super::explain::{self, Asked};
use super::install::{self, install, uninstall};
use crate::config::diagnostics::{Diagnostics, Severity, quoted};
use crate::config::host::Host;
use crate::config::inline::from_command_line;
use crate::config::load::{Loaded, load};
use crate::engine::{KEPT_MAX, Options, SIFT_AT};
use crate::record::{Level, LogLevels, LogName, Record};
use crate::shell::daemon::{Daemon, Reload};
use crate::shell::host::Machine;
use crate::shell::log::Log;
use crate::sys::limits::Limit;
use crate::sys::lock::PidFile;
use crate::sys::output::Output;
use crate::sys::process;

/// With `max_jobs = 0`: so many children for each CPU, but not fewer than the minimum in all.
const JOBS_PER_CPU: usize = 2;
const JOBS_MIN: usize = 4;

/// Not to be guessed: a hash of nothing under a key that the system made (`getrandom(2)`).
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Runs the program.
pub fn main() -> Exit {
    let mut args = env::args_os();
    let name = args.next().map(PathBuf::from);
    if name.is_some_and(|name| name.file_name() == Some(ctl::NAME.as_ref())) {
        return ctl::main(args);
    }
    match cli::parse(args) {
        Err(error) => {
            complain(&format!("rinotifyd: {error}"));
            Exit::Usage
        }
        Ok(Command::Help) => print(cli::help().as_bytes()),
        Ok(Command::Version) => print(cli::version("rinotifyd").as_bytes()),
        Ok(Command::List) => print(cli::events().as_bytes()),
        Ok(Command::Install(root)) => place(install, &root),
        Ok(Command::Uninstall(root)) => place(uninstall, &root),
        Ok(Command::Test { setup, .. }) => test(setup),
        Ok(Command::Explain { setup, asked }) => explain(setup, &asked),
        Ok(Command::Run(run)) => daemon(run),
    }
}

/// Installs or uninstalls; each step is told when it is done.
fn place(work: install::Work, root: &Path) -> Exit {
    let mut told = Exit::Success;
    let outcome = work(root, &mut |line| {
        if print(format!("{line}\n").as_bytes()) != Exit::Success {
            told = Exit::Failure;
        }
    });
    match outcome {
        Ok(()) => told,
        Err(failure) => {
            complain(&format!("rinotifyd: {failure}"));
            Exit::Failure
        }
    }
}

fn test(setup: Setup) -> Exit {
    match read(&absolute(setup)) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                complain(&loaded.warnings.to_string());
            }
            warn_of_missing(&loaded.config);
            print(verdict(loaded.config).as_bytes())
        }
        Err(errors) => {
            complain(&errors.to_string());
            Exit::Usage
        }
    }
}

/// Watch paths that are not there. The daemon logs them when it looks for them.
fn warn_of_missing(config: &crate::config::Config) {
    for watch in &config.watches {
        for path in watch.paths.iter().filter(|path| !path.is_wild() && !Machine.exists(&path.text)) {
            let path = quoted(&path.text);
            complain(&format!(
                "warning: {path} of watch {} is not there yet: the watch waits for it",
                watch.name
            ));
        }
    }
}

/// What an event would do.
fn explain(setup: Setup, asked: &Asked) -> Exit {
    let config = match read(&absolute(setup)) {
        Ok(loaded) => loaded.config,
        Err(errors) => {
            complain(&errors.to_string());
            return Exit::Usage;
        }
    };
    let path = absolute_path(Path::new(OsStr::from_bytes(&asked.path)));
    if path.components().any(|part| matches!(part, Component::ParentDir)) {
        complain("rinotifyd: write the path of -e without ..");
        return Exit::Usage;
    }
    let (text, runs) = explain::explain(config, asked.kind, path.as_os_str().as_bytes());
    match print(text.as_bytes()) {
        Exit::Success if !runs => Exit::Failure,
        exit => exit,
    }
}

/// That all is well, and whether the kernel will have room for it.
fn verdict(config: crate::config::Config) -> String {
    let Count { directories: count, refused } = count::count(config);
    for link in refused {
        complain(&format!("warning: {link}"));
    }
    let limit = Limit::Watches;
    let Ok(max) = limit.read() else { return format!("configuration ok, {count} directories to watch\n") };
    if count as u64 > max {
        complain(&format!(
            "warning: {count} directories to watch, but {} is {max}: raise it",
            limit.sysctl()
        ));
    }
    format!("configuration ok, {count} directories to watch of at most {max} ({})\n", limit.sysctl())
}

fn daemon(run: cli::Run) -> Exit {
    let mut source = Source { setup: absolute(run.setup), debug: run.debug };
    let Loaded { config, warnings } = match source.read() {
        Ok(loaded) => loaded,
        Err(errors) => {
            complain(&errors.to_string());
            return Exit::Usage;
        }
    };
    let name = config.daemon.logname.clone();
    let mut log = match Output::stderr() {
        Ok(output) => Log::new(config.log.clone(), output),
        Err(_) => return Exit::Failure,
    };
    log.set_syslog(&config.syslog, None);
    tell(&warnings, &mut |level, text| log.write(&Record::new(level, &name, text)));
    match start(run.pidfile.as_deref(), config, run.dry_run, log, &mut source) {
        Ok(()) => Exit::Success,
        Err(error) => {
            complain(&format!("rinotifyd: {error}"));
            Exit::Failure
        }
    }
}

fn start(
    pidfile: Option<&Path>,
    config: crate::config::Config,
    dry_run: bool,
    log: Log,
    source: &mut Source,
) -> Result<(), Box<dyn std::error::Error>> {
    // The children get no descriptors from the process that started the daemon.
    process::close_on_exec_from(3)?;
    process::survive_file_size_limit()?;
    let _pidfile = pidfile.map(|path| PidFile::acquire(&absolute_path(path))).transpose()?;
    let source_name = source.name();
    // The working directory of the daemon must not keep a filesystem from being unmounted.
    env::set_current_dir("/")?;
    let jobs = (process::cpu_count() * JOBS_PER_CPU).max(JOBS_MIN);
    let options = Options {
        dry_run,
        default_max_jobs: u32::try_from(jobs).unwrap_or(u32::MAX),
        sift_at: SIFT_AT,
        kept_max: KEPT_MAX,
        secret: [random(), random()],
    };
    let control = config.daemon.control.clone();
    let mut daemon = Daemon::new(config, options, log, source)?;
    daemon
        .open_service(control.as_deref(), &source_name)
        .map_err(|error| format!("a daemon with this configuration is {error}"))?;
    daemon.run()?;
    Ok(())
}

/// Where the configuration comes from.
struct Source {
    setup: Setup,
    debug: bool,
}

impl Source {
    /// Identifies this configuration: the path of its file, with links resolved.
    fn name(&self) -> Vec<u8> {
        let Setup::File(path) = &self.setup else { return Vec::new() };
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        path.into_os_string().into_vec()
    }

    fn read(&self) -> Result<Loaded, Diagnostics> {
        let mut loaded = read(&self.setup)?;
        if self.debug {
            loaded.config.log = LogLevels { default: Level::Debug, by_name: Vec::<(LogName, Level)>::new() };
        }
        Ok(loaded)
    }
}

impl Reload for Source {
    fn reload(&mut self, say: &mut dyn FnMut(Level, String)) -> Option<crate::config::Config> {
        match self.read() {
            Ok(Loaded { config, warnings }) => {
                tell(&warnings, say);
                Some(config)
            }
            Err(errors) => {
                tell(&errors, say);
                say(Level::Error, "configuration not reloaded: the old one stays".to_owned());
                None
            }
        }
    }
}

/// One line of the log for each diagnostic.
fn tell(diagnostics: &Diagnostics, say: &mut dyn FnMut(Level, String)) {
    for item in diagnostics.iter() {
        let level = match item.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
        };
        say(level, format!("{}: {}", diagnostics.locate(item.place), item.message));
    }
    if let Some(omitted) = diagnostics.omitted() {
        say(if diagnostics.has_errors() { Level::Error } else { Level::Warning }, omitted);
    }
}

fn read(setup: &Setup) -> Result<Loaded, Diagnostics> {
    match setup {
        Setup::File(path) => load(path, &Machine),
        Setup::Inline(inline) => from_command_line(inline),
    }
}

/// The daemon leaves its working directory, and reads the configuration again later.
fn absolute(setup: Setup) -> Setup {
    match setup {
        Setup::File(path) => Setup::File(absolute_path(&path)),
        Setup::Inline(mut inline) => {
            for path in &mut inline.watch {
                let given = PathBuf::from(std::ffi::OsString::from_vec(std::mem::take(path)));
                let dotted = given.components().any(|part| matches!(part, Component::ParentDir));
                // Events show no `..`; what it means depends on what is there now.
                let found = if dotted { std::fs::canonicalize(&given).ok() } else { None };
                *path = found.unwrap_or_else(|| absolute_path(&given)).as_os_str().as_bytes().to_vec();
            }
            Setup::Inline(inline)
        }
    }
}

/// As `std::path::absolute`, which leaves `..` alone; without a current directory, as it is.
fn absolute_path(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
