//! What belongs to an installation: the files, and what the init systems want.
//!
//! Every path is relative to the root. The files say `/usr/sbin` and `/etc` for the program and its
//! configuration; where these are elsewhere, they are put into place with that.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::face::cli::DEFAULT_CONFIG;

/// The pages of the manual, packed by the build script: file name and contents.
static PAGES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// The configuration.
pub fn config() -> &'static Path {
    Path::new(DEFAULT_CONFIG.trim_start_matches('/'))
}

/// A file that belongs to an installation.
pub struct InstalledFile {
    /// Where it goes.
    pub path: PathBuf,
    /// What it is.
    pub content: Content,
    /// Permissions of a file.
    pub mode: u32,
    /// The administrator may change it, and then it is kept.
    pub kept: bool,
}

/// What an item is.
pub enum Content {
    /// A file.
    Bytes(Cow<'static, [u8]>),
    /// A symbolic link.
    Link(&'static str),
}

impl InstalledFile {
    fn new(path: impl Into<PathBuf>, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { path: path.into(), content: Content::Bytes(bytes.into()), mode: 0o644, kept: false }
    }

    fn executable(self) -> Self {
        Self { mode: 0o755, ..self }
    }

    fn kept(self) -> Self {
        Self { kept: true, ..self }
    }
}

/// What starts services on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// systemd
    Systemd,
    /// OpenRC
    OpenRc,
    /// procd, which is OpenWrt's
    Procd,
    /// None of them.
    Unknown,
}

/// By what an init system is known: first what runs, then what is installed, as in an image.
pub static SIGNS: &[(&str, Init)] = &[
    ("run/systemd/system", Init::Systemd),
    ("run/openrc", Init::OpenRc),
    ("sbin/openrc-run", Init::OpenRc),
    ("sbin/procd", Init::Procd),
    ("lib/systemd/systemd", Init::Systemd),
    ("usr/lib/systemd/systemd", Init::Systemd),
];

impl Init {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::OpenRc => "OpenRC",
            Self::Procd => "procd",
            Self::Unknown => "neither systemd nor OpenRC nor procd: there will be no service file",
        }
    }

    /// OpenWrt has no `/usr/local`.
    const fn prefix(self) -> &'static str {
        if matches!(self, Self::Procd) { "usr" } else { "usr/local" }
    }

    /// The program, being `bytes`.
    pub fn program(self, bytes: Vec<u8>) -> InstalledFile {
        InstalledFile::new(format!("{}/sbin/rinotifyd", self.prefix()), bytes).executable()
    }

    /// Everything but the program.
    pub fn belongings(self) -> Vec<InstalledFile> {
        let prefix = self.prefix();
        let share =
            |path: &str, bytes: &'static [u8]| InstalledFile::new(format!("{prefix}/share/{path}"), bytes);
        // The client is the same program, and the completions of a shell are one file for both.
        let link = |(path, target): (&str, &'static str)| InstalledFile {
            content: Content::Link(target),
            ..InstalledFile::new(format!("{prefix}/{path}"), b"".as_slice())
        };
        let links = [
            ("sbin/rinotifyctl", "rinotifyd"),
            ("share/bash-completion/completions/rinotifyctl", "rinotifyd"),
            ("share/fish/vendor_completions.d/rinotifyctl.fish", "rinotifyd.fish"),
        ];
        let page = |(name, bytes): &(&str, &'static [u8])| {
            let section = name.rsplit('.').next().unwrap_or_default();
            share(&format!("man/man{section}/{name}.gz"), bytes)
        };
        let mut items: Vec<_> = links.into_iter().map(link).chain(PAGES.iter().map(page)).collect();
        items.extend(self.service());
        items.extend([
            share(
                "bash-completion/completions/rinotifyd",
                include_bytes!("../../../conf/completions/rinotifyd.bash"),
            ),
            share("zsh/site-functions/_rinotifyd", include_bytes!("../../../conf/completions/_rinotifyd")),
            share(
                "fish/vendor_completions.d/rinotifyd.fish",
                include_bytes!("../../../conf/completions/rinotifyd.fish"),
            ),
            InstalledFile::new(config(), include_bytes!("../../../conf/rinotifyd.conf").as_slice()).kept(),
        ]);
        items
    }

    /// What starts the service.
    fn service(self) -> Vec<InstalledFile> {
        let prefix = self.prefix();
        let item = |path: &str, text: &str| {
            let text = text.replace("/usr/sbin/", &format!("/{prefix}/sbin/"));
            let text = text.replace("/etc/rinotifyd/rinotifyd.conf", DEFAULT_CONFIG);
            InstalledFile::new(path, text.into_bytes())
        };
        match self {
            Self::Systemd => vec![item(
                &format!("{prefix}/lib/systemd/system/rinotifyd.service"),
                include_str!("../../../conf/systemd/rinotifyd.service"),
            )],
            Self::OpenRc => vec![
                item("etc/init.d/rinotifyd", include_str!("../../../conf/openrc/rinotifyd.initd"))
                    .executable(),
                item("etc/conf.d/rinotifyd", include_str!("../../../conf/openrc/rinotifyd.confd")).kept(),
            ],
            Self::Procd => vec![
                item("etc/init.d/rinotifyd", include_str!("../../../conf/procd/rinotifyd.init")).executable(),
            ],
            Self::Unknown => Vec::new(),
        }
    }

    /// The links by which the service is enabled, as far as their names are known.
    pub fn links(self) -> impl Iterator<Item = &'static Path> {
        let links: &[&str] = match self {
            Self::Systemd => &["etc/systemd/system/multi-user.target.wants/rinotifyd.service"],
            Self::OpenRc => &["etc/runlevels/default/rinotifyd"],
            Self::Procd => &["etc/rc.d/S95rinotifyd", "etc/rc.d/K10rinotifyd"],
            Self::Unknown => &[],
        };
        links.iter().map(Path::new)
    }

    /// What the administrator does after installing.
    pub const fn to_start(self) -> &'static str {
        match self {
            Self::Systemd => "systemctl daemon-reload && systemctl enable --now rinotifyd",
            Self::OpenRc => "rc-update add rinotifyd && rc-service rinotifyd start",
            Self::Procd => "/etc/init.d/rinotifyd enable && /etc/init.d/rinotifyd start",
            Self::Unknown => "rinotifyd",
        }
    }

    /// How a daemon ends whose service file is gone already.
    pub const fn to_stop(self) -> &'static str {
        match self {
            Self::Systemd => "systemctl stop rinotifyd; systemctl daemon-reload",
            Self::OpenRc => "kill $(cat /run/supervise-rinotifyd.pid)",
            Self::Procd => "ubus call service delete '{\"name\": \"rinotifyd\"}'",
            Self::Unknown => "kill it",
        }
    }
}
