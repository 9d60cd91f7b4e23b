//! A log record: what the engine and the shell say, before anybody formats it.

use std::fmt;
use std::sync::Arc;

/// How much it matters, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every decision.
    Debug,
    /// What a person who reads the log wants to know.
    Info,
    /// Something is off; the daemon goes on and nothing is lost yet.
    Warning,
    /// A task or a watch failed.
    Error,
    /// The daemon cannot go on.
    Critical,
}

impl Level {
    /// From least to most.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// The word used in the configuration and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }

    /// The level with this name; exact, case-sensitive.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name under which a record is logged and its level looked up.
pub type LogName = Arc<str>;

/// One line of the log. Values are raw bytes; the formatter escapes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How much it matters.
    pub level: Level,
    /// Who says it.
    pub name: LogName,
    /// What happened, in words.
    pub message: String,
    /// `key=value` pairs.
    pub fields: Vec<(&'static str, Vec<u8>)>,
    /// A user asked for it: it is logged whatever the level is.
    pub asked_for: bool,
}

impl Record {
    /// A record without fields.
    #[must_use]
    pub fn new(level: Level, name: &LogName, message: impl Into<String>) -> Self {
        Self { level, name: name.clone(), message: message.into(), fields: Vec::new(), asked_for: false }
    }

    /// One that is logged whatever the level is.
    #[must_use]
    pub fn asked_for(name: &LogName, message: impl Into<String>) -> Self {
        Self { asked_for: true, ..Self::new(Level::Info, name, message) }
    }

    /// Adds one `key=value`.
    #[must_use]
    pub fn field(mut self, key: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((key, value.as_ref().to_vec()));
        self
    }
}

/// Which records are wanted: a level for all, and others for single log names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevels {
    /// For names that have none of their own.
    pub default: Level,
    /// Exceptions by log name.
    pub by_name: Vec<(LogName, Level)>,
}

impl Default for LogLevels {
    fn default() -> Self {
        Self { default: Level::Info, by_name: Vec::new() }
    }
}

impl LogLevels {
    /// Whether a record of this level and name is wanted.
    #[must_use]
    pub fn enabled(&self, level: Level, name: &str) -> bool {
        let own = self.by_name.iter().find(|(known, _)| &**known == name);
        level >= own.map_or(self.default, |(_, level)| *level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_its_own_overrides_the_default() {
        let levels = LogLevels { default: Level::Warning, by_name: vec![("sched".into(), Level::Debug)] };
        assert!(levels.enabled(Level::Debug, "sched"));
        assert!(!levels.enabled(Level::Info, "daemon"));
        assert!(levels.enabled(Level::Error, "daemon"));
    }
}
