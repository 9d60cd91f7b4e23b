//! `--install`, `--uninstall`, `make install` and `make uninstall`, each below a root of its own.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::tools::{BINARY, has, is_root, repository, succeed};

const CONFIG: &str = "etc/rinotifyd/rinotifyd.conf";
const NOBODY: u32 = 65534;

/// A root with what tells of an init system.
struct Image(TempDir);

impl Image {
    fn new(sign: &str) -> Self {
        let image = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(image.path(sign).parent().unwrap()).unwrap();
        fs::write(image.path(sign), "").unwrap();
        image
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Runs the program on it: exit status, standard output, standard error.
    fn run(&self, mode: &str) -> (i32, String, String) {
        outcome(Command::new(BINARY).arg(mode).arg("--root").arg(self.0.path()))
    }

    #[track_caller]
    fn succeed(&self, mode: &str) -> String {
        let (status, said, errors) = self.run(mode);
        assert_eq!((status, errors.as_str()), (0, ""), "{said}");
        said
    }

    /// It fails with one line that says this, and nothing is written.
    #[track_caller]
    fn refuse(&self, mode: &str, expected: &str) {
        let before = self.files();
        let (status, said, errors) = self.run(mode);
        assert_eq!(status, 1, "{said}{errors}");
        assert!(errors.contains(expected) && errors.lines().count() == 1, "{errors}");
        assert!(errors.starts_with("rinotifyd: "), "{errors}");
        assert_eq!(self.files(), before, "it has done something");
    }

    /// Everything below that is no directory: mode, and contents or target.
    fn files(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        files(self.0.path())
    }
}

fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn files(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut rest = vec![root.to_owned()];
    while let Some(dir) = rest.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = match fs::read_link(&path) {
                _ if metadata.is_dir() => {
                    rest.push(path);
                    continue;
                }
                Ok(target) => target.into_os_string().into_encoded_bytes(),
                Err(_) => fs::read(&path).unwrap(),
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (metadata.mode() & 0o7777, content));
        }
    }
    found
}

/// For each init system: by what it is known, the prefix, and what it gets, with modes.
type Case = (&'static str, &'static str, &'static [(&'static str, u32)]);

const CASES: [Case; 4] = [
    ("run/systemd/system/x", "usr/local", &[("usr/local/lib/systemd/system/rinotifyd.service", 0o644)]),
    ("sbin/openrc-run", "usr/local", &[("etc/init.d/rinotifyd", 0o755), ("etc/conf.d/rinotifyd", 0o644)]),
    ("sbin/procd", "usr", &[("etc/init.d/rinotifyd", 0o755)]),
    ("etc/inittab", "usr/local", &[]),
];

#[test]
fn each_init_system_gets_what_it_wants() {
    if !is_root() {
        return;
    }
    for (sign, prefix, services) in CASES {
        let image = Image::new(sign);
        let said = image.succeed("--install");
        let files = image.files();
        let program = format!("{prefix}/sbin/rinotifyd");
        assert_eq!(files[Path::new(&program)], (0o755, fs::read(BINARY).unwrap()), "{sign}");
        let config = fs::read(repository().join("conf/rinotifyd.conf")).unwrap();
        assert_eq!(files[Path::new(CONFIG)], (0o644, config));
        for (path, mode) in services {
            let (found, content) = &files[Path::new(path)];
            assert_eq!(found, mode, "{path}");
            let text = String::from_utf8(content.clone()).unwrap();
            let names_it = text.contains(&format!("/{program}"));
            assert!(names_it || path.ends_with("conf.d/rinotifyd"), "{path}:\n{text}");
        }
        let pages = fs::read_dir(repository().join("man")).unwrap().count();
        let client = (0o777, b"rinotifyd".to_vec());
        assert_eq!(files[Path::new(&format!("{prefix}/sbin/rinotifyctl"))], client);
        let completions = 3 + 2;
        assert_eq!(files.len(), 4 + pages + completions + services.len(), "{sign}: {said}");
        let told = said.lines().filter(|line| line.starts_with("installed ")).count();
        assert_eq!(told, files.len() - 1, "{said}");

        let again = image.succeed("-i");
        assert_eq!(image.files(), files, "the second time changes something");
        assert_eq!(again.lines().filter(|line| line.starts_with("unchanged ")).count(), told, "{again}");

        image.succeed("--uninstall");
        assert_eq!(image.files().len(), 1, "{sign}: {:?}", image.files().keys());
        assert!(!image.path("etc/rinotifyd").exists());
        assert!(image.succeed("-u").starts_with("nothing to do"));
    }
}

#[test]
fn pages_can_be_read() {
    if is_root() && has("gzip") {
        let image = Image::new("sbin/openrc-run");
        image.succeed("-i");
        for page in fs::read_dir(repository().join("man")).unwrap() {
            let page = page.unwrap().path();
            let name = page.file_name().unwrap().to_str().unwrap();
            let section = name.rsplit('.').next().unwrap();
            let packed = image.path(&format!("usr/local/share/man/man{section}/{name}.gz"));
            let read = succeed(Command::new("gzip").arg("-dc").arg(packed));
            assert_eq!(read, fs::read_to_string(&page).unwrap(), "{name}");
        }
    }
}

#[test]
fn what_an_administrator_changed_is_kept() {
    if !is_root() {
        return;
    }
    let image = Image::new("sbin/openrc-run");
    image.succeed("-i");
    fs::write(image.path(CONFIG), "[log]\nlevel = debug\n").unwrap();
    fs::set_permissions(image.path("etc/conf.d/rinotifyd"), Permissions::from_mode(0o600)).unwrap();
    fs::write(image.path("usr/local/sbin/rinotifyd"), "an older one").unwrap();
    let said = image.succeed("-i");
    assert!(said.contains("kept, because it was changed: "), "{said}");
    assert!(said.contains("replaced "), "{said}");
    assert_eq!(fs::read_to_string(image.path(CONFIG)).unwrap(), "[log]\nlevel = debug\n");
    assert_eq!(fs::metadata(image.path("etc/conf.d/rinotifyd")).unwrap().mode() & 0o777, 0o600);
    fs::create_dir_all(image.path("etc/runlevels/default")).unwrap();
    symlink("/etc/init.d/rinotifyd", image.path("etc/runlevels/default/rinotifyd")).unwrap();
    image.succeed("-u");
    let left: Vec<_> = image.files().into_keys().collect();
    assert_eq!(left, [Path::new(CONFIG), Path::new("sbin/openrc-run")]);
}

#[test]
fn links_are_replaced_and_not_followed() {
    if !is_root() {
        return;
    }
    let image = Image::new("sbin/openrc-run");
    let outside = tempfile::tempdir().unwrap();
    let precious = outside.path().join("precious");
    fs::write(&precious, "kept").unwrap();
    for dir in ["usr/local/sbin", "etc/rinotifyd", "data/share", "etc/conf.d"] {
        fs::create_dir_all(image.path(dir)).unwrap();
    }
    symlink(&precious, image.path("usr/local/sbin/rinotifyd")).unwrap();
    // A link of the administrator's, which is not followed either.
    symlink(&precious, image.path(CONFIG)).unwrap();
    // Absolute: in the image it means the image.
    symlink("/data/share", image.path("usr/local/share")).unwrap();
    image.succeed("-i");
    assert!(image.path("data/share/man").is_dir());
    assert!(image.path("usr/local/sbin/rinotifyd").symlink_metadata().unwrap().is_file());
    assert!(image.path(CONFIG).is_symlink());
    image.succeed("-u");
    assert!(image.path(CONFIG).is_symlink());
    assert_eq!(fs::read_to_string(precious).unwrap(), "kept");
}

#[test]
fn bad_places_are_refused_before_anything_is_done() {
    if !is_root() {
        return;
    }
    let image = Image::new("sbin/openrc-run");
    fs::create_dir_all(image.path("etc/init.d/rinotifyd")).unwrap();
    image.refuse("-i", "etc/init.d/rinotifyd\" is in the way");
    fs::remove_dir(image.path("etc/init.d/rinotifyd")).unwrap();
    fs::write(image.path("usr"), "").unwrap();
    image.refuse("-i", "usr/local/sbin\": ENOTDIR");
    fs::remove_file(image.path("usr")).unwrap();
    symlink("nowhere", image.path("usr")).unwrap();
    let (status, _, errors) = image.run("-i");
    assert_eq!(status, 1);
    assert!(errors.contains("EEXIST"), "{errors}");

    let (status, _, errors) = outcome(Command::new(BINARY).args(["-i", "--root", "/no/such/root"]));
    assert_eq!((status, errors.lines().count()), (1, 1), "{errors}");
    assert!(errors.contains("\"/no/such/root\": ENOENT"), "{errors}");
    let (status, _, errors) = outcome(Command::new(BINARY).args(["-u", "--root", "/dev/null"]));
    assert_eq!((status, errors.lines().count()), (1, 1), "{errors}");
    let (status, _, errors) = outcome(Command::new(BINARY).args(["-i", "--root"]));
    assert_eq!(status, 2, "{errors}");
}

#[test]
fn a_read_only_root_is_left_alone() {
    if !is_root() {
        return;
    }
    let image = Image::new("sbin/openrc-run");
    image.succeed("-i");
    fs::write(image.path("usr/local/sbin/rinotifyd"), "an older one").unwrap();
    let read_only = |part: &str| {
        let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && \
                      { \"$2\" -i --root \"$3\"; echo \"status $?\"; \"$2\" -u --root \"$3\"; echo \"status $?\"; }";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]);
        let before = image.files();
        let said = succeed(command.arg(image.path(part)).arg(BINARY).arg(image.0.path()));
        assert_eq!(image.files(), before, "{said}");
        assert_eq!(said.matches("EROFS").count(), 2, "{said}");
        assert_eq!(said.matches("status 1").count(), 2, "{said}");
    };
    read_only("");
    // Only a part of what belongs there: the rest is not written either.
    fs::remove_file(image.path("etc/init.d/rinotifyd")).unwrap();
    read_only("etc");
}

#[test]
fn others_than_root_are_told_so() {
    if !is_root() {
        return;
    }
    let image = Image::new("sbin/openrc-run");
    fs::set_permissions(image.0.path(), Permissions::from_mode(0o777)).unwrap();
    // The build directory may be closed to others.
    let program = image.path("rinotifyd");
    fs::copy(BINARY, &program).unwrap();
    for mode in ["-i", "-u"] {
        let mut command = Command::new(&program);
        command.uid(NOBODY).gid(NOBODY).current_dir("/").arg(mode).arg("--root").arg(image.0.path());
        let expected = "rinotifyd: only root can install and uninstall\n".to_owned();
        assert_eq!(outcome(&mut command), (1, String::new(), expected));
    }
    assert_eq!(image.files().len(), 2);
}

/// `make install` and the like for an image.
#[track_caller]
fn make(target: &str, image: &Path, variables: &[&str]) -> String {
    let mut command = Command::new("make");
    command.current_dir(repository()).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    command.args(["--no-print-directory", target]).arg(format!("DESTDIR={}", image.display()));
    succeed(command.arg(format!("BINARY={BINARY}")).args(variables))
}

#[test]
fn make_installs_the_same() {
    if !is_root() || !has("make") || !has("gzip") {
        return;
    }
    for (sign, init, prefix) in [
        ("run/systemd/system/x", "systemd", "/usr/local"),
        ("sbin/openrc-run", "openrc", "/usr/local"),
        ("sbin/procd", "procd", "/usr"),
    ] {
        let (ours, theirs) = (Image::new(sign), Image::new(sign));
        ours.succeed("-i");
        let variables = [format!("INIT={init}"), format!("PREFIX={prefix}")];
        let variables: Vec<_> = variables.iter().map(String::as_str).collect();
        make("install", theirs.0.path(), &variables);
        // The program brings its pages packed.
        for path in ours.files().into_keys().filter(|path| path.extension().is_some_and(|end| end == "gz")) {
            succeed(Command::new("gzip").arg("-d").arg(ours.0.path().join(path)));
        }
        assert_eq!(theirs.files(), ours.files(), "{init}");
        make("uninstall", theirs.0.path(), &variables);
        assert_eq!(theirs.files().len(), 1, "{:?}", theirs.files().keys());
    }
}

#[test]
fn make_takes_other_places_and_keeps_a_configuration() {
    if !has("make") {
        return;
    }
    let image = tempfile::tempdir().unwrap();
    let variables =
        ["PREFIX=/opt", "SYSCONFDIR=/opt/etc", "SBINDIR=/opt/bin", "MANDIR=/opt/man", "INIT=systemd"];
    make("install", image.path(), &variables);
    let read = |path: &str| fs::read_to_string(image.path().join(path)).unwrap();
    assert!(image.path().join("opt/bin/rinotifyd").is_file());
    assert!(read("opt/man/man8/rinotifyd.8").contains("/opt/etc/rinotifyd/rinotifyd.conf"));
    let unit = read("opt/lib/systemd/system/rinotifyd.service");
    assert!(unit.contains("ExecStart=/opt/bin/rinotifyd -c /opt/etc/rinotifyd/rinotifyd.conf\n"), "{unit}");
    let config = image.path().join("opt/etc/rinotifyd/rinotifyd.conf");
    fs::write(&config, "mine").unwrap();
    assert!(make("install", image.path(), &variables).contains("kept "));
    assert!(make("uninstall", image.path(), &variables).contains("kept "));
    assert_eq!(
        files(image.path()).into_keys().collect::<Vec<_>>(),
        [Path::new("opt/etc/rinotifyd/rinotifyd.conf")]
    );
    assert_eq!(fs::read_to_string(config).unwrap(), "mine");
}
