//! Whom the daemon talks to: who asks at the control socket, and the service manager.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Daemon;
use crate::engine::Input;
use crate::engine::message::{Question, Reply, ReplyEnd};
use crate::quote::Quoted;
use crate::record::{Level, Record};
use crate::rows::Rows;
use crate::shell::control::{Control, OpenError, Request};
use crate::shell::notify::Notifier;
use crate::sys::clock;
use crate::sys::lock::LockError;
use crate::types::Millis;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Service {
    control: Option<Control>,
    notifier: Notifier,
    /// Which configuration this daemon has, for another one that comes second.
    about: Vec<u8>,
    /// What a reload wants for the control socket, and is still to be done.
    moving: Option<Option<Vec<u8>>>,
    /// In a dry run there is no control socket: it is for trying things beside the real daemon.
    pub dry_run: bool,
}

impl Service {
    pub(super) fn new(dry_run: bool) -> Self {
        Self { control: None, notifier: Notifier::default(), about: Vec::new(), moving: None, dry_run }
    }

    /// When [`Daemon::serve_time`] is due.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let control = self.control.as_ref().and_then(Control::deadline);
        [control, self.notifier.deadline()].into_iter().flatten().min()
    }
}

impl Daemon<'_> {
    /// Makes the control socket and greets the service manager. `about` names the configuration.
    ///
    /// # Errors
    ///
    /// A daemon with the same configuration runs already. Anything else is a warning.
    pub fn open_service(&mut self, control: Option<&[u8]>, about: &[u8]) -> Result<(), LockError> {
        let (notifier, complaint) = Notifier::from_environment(clock::now());
        self.service.notifier = notifier;
        self.warn(complaint);
        self.service.about = about.to_vec();
        match control.filter(|_| !self.service.dry_run).map(|path| self.open_control(path)) {
            Some(Err(OpenError::Twin(error))) => Err(error),
            Some(Err(OpenError::Other(why))) => {
                self.warn(Some(format!("no control socket {why}")));
                Ok(())
            }
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn open_control(&mut self, path: &[u8]) -> Result<(), OpenError> {
        let control =
            Control::open(&mut self.reactor, Path::new(OsStr::from_bytes(path)), &self.service.about)
                .map_err(|error| match error {
                    OpenError::Other(why) => OpenError::Other(format!("{}: {why}", Quoted(path))),
                    twin @ OpenError::Twin(_) => twin,
                })?;
        self.service.control = Some(control);
        Ok(())
    }

    /// What a reload leaves to be done once the client that asked for it has an answer. A socket that cannot
    /// be made leaves the old one in place.
    pub(super) fn move_control(&mut self) {
        let Some(path) = self.service.moving.take() else { return };
        let path = path.as_deref().filter(|_| !self.service.dry_run);
        let old = self.service.control.as_ref().map(|control| control.path().as_os_str().as_bytes());
        if old == path {
            return;
        }
        let mut old = self.service.control.take();
        if let Some(Err(error)) = path.map(|path| self.open_control(path)) {
            let why = match error {
                OpenError::Twin(error) => error.to_string(),
                OpenError::Other(why) => why,
            };
            let stays = if old.is_some() { "; the old one stays" } else { "" };
            self.warn(Some(format!("no control socket {why}{stays}")));
            self.service.control = old.take();
        }
        if let Some(old) = &mut old {
            old.shut(&mut self.reactor);
        }
    }

    /// A client connects.
    pub(super) fn accept_client(&mut self) {
        if let Some(control) = &mut self.service.control {
            control.accept(&mut self.reactor, clock::now());
        }
    }

    /// A client has said something, has room for more of its answer, or is gone.
    pub(super) fn serve_client(&mut self, client: u32) {
        let now = clock::now();
        let Some(control) = &mut self.service.control else { return };
        if let Some(question) = control.write(&mut self.reactor, client, now) {
            self.step(Input::Ask { client, question });
        } else if let Some(request) = control.read(&mut self.reactor, client, now) {
            match request {
                Request::Ask(Question::Status) => {
                    let rows = self.own_status();
                    self.reply(Reply { client, rows, end: ReplyEnd::More(Question::Status) });
                }
                Request::Ask(question) => self.step(Input::Ask { client, question }),
                Request::Reload => {
                    let outcome = self.reload();
                    let end = outcome.map_or_else(ReplyEnd::Refused, |()| ReplyEnd::Done);
                    self.reply(Reply { client, rows: Rows::default(), end });
                    self.move_control();
                }
            }
        }
        self.carry_out();
    }

    /// What the engine does not know.
    fn own_status(&self) -> Rows {
        let mut rows = Rows::default();
        let pid = u64::from(std::process::id());
        rows.push("daemon", &[("version", env!("CARGO_PKG_VERSION").into()), ("pid", pid.into())]);
        for line in self.log.errors() {
            rows.push("errors", &[("error", line.into())]);
        }
        rows
    }

    pub(super) fn reply(&mut self, reply: Reply) {
        if let Some(control) = &mut self.service.control {
            control.reply(&mut self.reactor, reply.client, reply.rows, reply.end, clock::now());
        }
    }

    /// Lets late clients go, and tells the service manager that the daemon is alive.
    pub(super) fn serve_time(&mut self, now: Millis) {
        if let Some(control) = &mut self.service.control {
            control.expire(&mut self.reactor, now);
        }
        let complaint = self.service.notifier.tick(now);
        self.warn(complaint);
    }

    pub(super) fn notify_ready(&mut self) {
        let status = format!("watching {} directories", self.engine.directories());
        let complaint = self.service.notifier.ready(&status);
        self.warn(complaint);
    }

    /// The end begins.
    pub(super) fn stop(&mut self, reason: &'static str) {
        let complaint = self.service.notifier.stopping();
        self.warn(complaint);
        self.step(Input::Stop { reason });
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    ///
    /// The errors in it, for the client that asked; the log has them already.
    pub(super) fn reload(&mut self) -> Result<(), String> {
        if self.engine.is_stopping() {
            let why = "not reloading: shutdown is in progress".to_owned();
            self.warn(Some(why.clone()));
            return Err(why);
        }
        let complaint = self.service.notifier.reloading();
        self.warn(complaint);
        let (log, name) = (&mut self.log, &self.logname);
        let mut errors = String::new();
        let mut say = |level, message: String| {
            if level >= Level::Error {
                errors.push_str(&message);
                errors.push('\n');
            }
            log.write(&Record::new(level, name, message));
        };
        let config = self.reload.reload(&mut say);
        let outcome = config.map(|config| {
            self.log.set_levels(config.log.clone());
            self.log.set_syslog(&config.syslog, Some(&mut self.reactor));
            self.logname = config.daemon.logname.clone();
            self.file_workers = config.daemon.file_workers;
            self.service.moving = Some(config.daemon.control.clone());
            self.step(Input::Reload(Box::new(config)));
        });
        // What the manager waits for is the end of the reload, however it went. At start there is
        // more to wait for.
        if self.engine.is_ready() {
            self.notify_ready();
        }
        outcome.ok_or(errors)
    }

    fn warn(&mut self, complaint: Option<String>) {
        if let Some(complaint) = complaint {
            self.say(Level::Warning, complaint);
        }
    }
}
