//! `--install` and `--uninstall`: the binary puts itself and what belongs to it into place.
//!
//! All items are inspected before the first file is written, so that an obstacle is found in time. A
//! configuration that the administrator has changed is kept, by uninstalling too.

mod files;

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use self::files::{Content, Init, InstalledFile, SIGNS, config};
use crate::quote::Quoted;
use crate::sys::rooted::{Directory, Root};
use crate::sys::stat::Kind;
use crate::sys::{Errno, Error, user};

/// Why nothing, or not everything, was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallFailure {
    /// Only root may do this.
    NotRoot,
    /// At the place of a file is an entry that is no file.
    InTheWay(PathBuf),
    /// A system call failed.
    System(Error),
}

impl fmt::Display for InstallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot => f.write_str("only root can install and uninstall"),
            Self::InTheWay(path) => {
                write!(f, "{} is in the way: it is no file", Quoted(path.as_os_str().as_bytes()))
            }
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InstallFailure {}

/// [`install`] or [`uninstall`].
pub type Work = fn(&Path, &mut dyn FnMut(&str)) -> Result<(), InstallFailure>;

/// What stands where an item belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Installed {
    Nothing,
    Same,
    Other,
}

/// What is done about an item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InstallStep {
    Install,
    Replace,
    Remove,
    /// Kept, because the administrator has changed it.
    Keep,
    /// Kept, because it is right already.
    Leave,
    /// Not there, and not wanted.
    Skip,
}

/// Puts the program and its belongings below `root`; `say` gets a line for each step.
///
/// # Errors
///
/// See [`InstallFailure`]. What is in the way or read-only is found before anything is written.
pub fn install(root: &Path, say: &mut dyn FnMut(&str)) -> Result<(), InstallFailure> {
    let site = Site::open(root)?;
    let init = site.init();
    say(&format!("found {}", init.name()));
    let mut items = vec![init.program(own_program()?)];
    items.extend(init.belongings());
    let steps = site.plan(items, |item, found| match found {
        Installed::Nothing => InstallStep::Install,
        Installed::Other if item.kept => InstallStep::Keep,
        Installed::Other => InstallStep::Replace,
        Installed::Same => InstallStep::Leave,
    })?;
    site.carry_out(&steps, say)?;
    say(&format!("now write {}, then", site.shown(config())));
    say("    rinotifyd -t");
    say(&format!("    {}", init.to_start()));
    Ok(())
}

/// Takes away what [`install`] puts there, but for a configuration that was changed.
///
/// # Errors
///
/// As [`install`].
pub fn uninstall(root: &Path, say: &mut dyn FnMut(&str)) -> Result<(), InstallFailure> {
    let site = Site::open(root)?;
    let init = site.init();
    let program = init.program(Vec::new());
    if site.inspect(&program)? == Installed::Nothing {
        say(&format!("nothing to do: there is no {}", site.shown(&program.path)));
        return Ok(());
    }
    let mut items = init.belongings();
    // Last: as long as it is there, what was interrupted can be done again.
    items.push(program);
    let steps = site.plan(items, |item, found| match found {
        Installed::Nothing => InstallStep::Skip,
        Installed::Other if item.kept => InstallStep::Keep,
        Installed::Same | Installed::Other => InstallStep::Remove,
    })?;
    for link in init.links() {
        site.remove_link(link, say)?;
    }
    site.carry_out(&steps, say)?;
    site.remove_config_directory(say)?;
    say(&format!("if it still runs: {}", init.to_stop()));
    Ok(())
}

/// The running program, even if its file was removed.
fn own_program() -> Result<Vec<u8>, InstallFailure> {
    const OWN: &str = "/proc/self/exe";
    std::fs::read(OWN).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        InstallFailure::System(Error::new("read", OWN, errno))
    })
}

/// Where it is installed.
struct Site {
    root: Root,
    path: PathBuf,
}

impl Site {
    fn open(path: &Path) -> Result<Self, InstallFailure> {
        if !user::is_root() {
            return Err(InstallFailure::NotRoot);
        }
        let root = Root::open(path).map_err(|errno| {
            InstallFailure::System(Error::new("open", path.as_os_str().as_bytes(), errno))
        })?;
        Ok(Self { root, path: path.to_owned() })
    }

    fn init(&self) -> Init {
        let exists = |path: &str| {
            let (parent, name) = split(Path::new(path));
            self.root.directory(parent).and_then(|dir| dir.look(name)).is_ok_and(|found| found.is_some())
        };
        SIGNS.iter().find(|(path, _)| exists(path)).map_or(Init::Unknown, |(_, init)| *init)
    }

    fn shown(&self, path: impl AsRef<Path>) -> String {
        self.path.join(path).display().to_string()
    }

    fn failure(&self, op: &'static str, path: &Path, errno: Errno) -> InstallFailure {
        InstallFailure::System(Error::new(op, self.path.join(path).as_os_str().as_bytes(), errno))
    }

    fn open_parent<'a>(&self, path: &'a Path) -> Result<(Directory, &'a Path), InstallFailure> {
        let (parent, name) = split(path);
        let dir = self.root.directory(parent).map_err(|errno| self.failure("open", parent, errno))?;
        Ok((dir, name))
    }

    /// The steps for all items. Nothing is changed; what would fail is found here, where it can be.
    fn plan(
        &self,
        items: Vec<InstalledFile>,
        decide: impl Fn(&InstalledFile, Installed) -> InstallStep,
    ) -> Result<Vec<(InstalledFile, InstallStep)>, InstallFailure> {
        let mut steps = Vec::new();
        for item in items {
            let step = decide(&item, self.inspect(&item)?);
            if matches!(step, InstallStep::Install | InstallStep::Replace | InstallStep::Remove) {
                self.check_writable(&item.path)?;
            }
            steps.push((item, step));
        }
        Ok(steps)
    }

    /// What stands at the place of an item.
    fn inspect(&self, item: &InstalledFile) -> Result<Installed, InstallFailure> {
        let (parent, name) = split(&item.path);
        let dir = match self.root.directory(parent) {
            Ok(dir) => dir,
            Err(Errno::ENOENT) => return Ok(Installed::Nothing),
            Err(errno) => return Err(self.failure("open", parent, errno)),
        };
        let failure = |errno| self.failure("open", &item.path, errno);
        let Some(stat) = dir.look(name).map_err(failure)? else { return Ok(Installed::Nothing) };
        let same = match (&item.content, stat.kind) {
            (_, Kind::Directory | Kind::Fifo | Kind::Other) => {
                return Err(InstallFailure::InTheWay(self.path.join(&item.path)));
            }
            (Content::Link(target), Kind::Symlink) => dir.link_target(name) == Some(target.as_bytes().into()),
            // A configuration with fewer permissions counts as unchanged.
            (Content::Bytes(bytes), Kind::File) if item.kept || stat.mode == item.mode => {
                dir.read(name, bytes.len()).map_err(failure)? == **bytes
            }
            (Content::Link(_), Kind::File) | (Content::Bytes(_), Kind::File | Kind::Symlink) => false,
        };
        Ok(if same { Installed::Same } else { Installed::Other })
    }

    /// Whether the nearest directory above that exists can be written to.
    fn check_writable(&self, path: &Path) -> Result<(), InstallFailure> {
        for above in path.ancestors().skip(1) {
            match self.root.directory(above).and_then(|dir| dir.check_writable()) {
                Err(Errno::ENOENT) => {}
                outcome => return outcome.map_err(|errno| self.failure("write to", above, errno)),
            }
        }
        Ok(())
    }

    fn carry_out(
        &self,
        steps: &[(InstalledFile, InstallStep)],
        say: &mut dyn FnMut(&str),
    ) -> Result<(), InstallFailure> {
        for (item, step) in steps {
            match step {
                InstallStep::Install | InstallStep::Replace => self.put(item)?,
                InstallStep::Remove => self.remove(&item.path)?,
                InstallStep::Keep | InstallStep::Leave | InstallStep::Skip => {}
            }
            let what = match step {
                InstallStep::Install => "installed",
                InstallStep::Replace => "replaced",
                InstallStep::Remove => "removed",
                InstallStep::Keep => "kept, because it was changed:",
                InstallStep::Leave => "unchanged",
                InstallStep::Skip => continue,
            };
            say(&format!("{what} {}", self.shown(&item.path)));
        }
        Ok(())
    }

    fn put(&self, item: &InstalledFile) -> Result<(), InstallFailure> {
        let (parent, name) = split(&item.path);
        let made = self.root.make_directory(parent);
        let dir = made.map_err(|errno| self.failure("make", parent, errno))?;
        let outcome = match &item.content {
            Content::Bytes(bytes) => dir.put_file(name, bytes, item.mode),
            Content::Link(target) => dir.put_link(name, Path::new(target)),
        };
        outcome.map_err(|errno| self.failure("write", &item.path, errno))
    }

    fn remove(&self, path: &Path) -> Result<(), InstallFailure> {
        let (dir, name) = self.open_parent(path)?;
        dir.remove(name).map_err(|errno| self.failure("remove", path, errno))
    }

    /// Removes a link if there is one.
    fn remove_link(&self, path: &Path, say: &mut dyn FnMut(&str)) -> Result<(), InstallFailure> {
        let (parent, name) = split(path);
        if self.root.directory(parent).is_ok_and(|dir| dir.link_target(name).is_some()) {
            self.remove(path)?;
            say(&format!("removed {}", self.shown(path)));
        }
        Ok(())
    }

    /// Removes the directory of the configuration, unless something is left in it.
    fn remove_config_directory(&self, say: &mut dyn FnMut(&str)) -> Result<(), InstallFailure> {
        let (path, _) = split(config());
        let (dir, name) = self.open_parent(path)?;
        if dir.remove_if_empty(name).map_err(|errno| self.failure("remove", path, errno))? {
            say(&format!("removed {}", self.shown(path)));
        }
        Ok(())
    }
}

/// Directory and name of a path of the tables.
fn split(path: &Path) -> (&Path, &Path) {
    (path.parent().unwrap_or(path), path.file_name().map_or(path, Path::new))
}
