//! From the main file to a [`Config`]: reads it and what it includes, and reports all errors at
//! once.
//!
//! An included file may hold any section, and keys of `[daemon]` and `[log]` that no other file
//! sets, but not `include`.

use std::path::{Path, PathBuf};

use super::Config;
use super::build;
use super::diagnostics::{Diagnostics, Span};
use super::fields;
use super::host::Host;
use super::ini::{self, Section, Text};
use super::reader::{Asker, Reader};
use super::usage;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// Complete and valid.
    pub config: Config,
    /// Warnings; no errors.
    pub warnings: Diagnostics,
}

/// Reads the main file and all it names.
///
/// # Errors
///
/// Everything that is wrong, and the warnings found on the way.
pub fn load(path: &Path, host: &dyn Host) -> Result<Loaded, Diagnostics> {
    let mut reader = Reader::new(path, host);
    let Some(main) = reader.read(path, Asker::CommandLine) else { return Err(reader.out) };
    let mut sections = ini::parse(main.0, &main.1, &mut reader.out);
    let includes = take_includes(&mut sections);
    for included in reader.included(&includes) {
        sections.extend(include(&mut reader, &included));
    }
    let sections = fields::check(&sections, &mut reader.out);
    let config = build::config(&sections, &mut reader);
    let (host, mut out) = (reader.host, reader.out);
    if out.has_errors() {
        return Err(out);
    }
    usage::check(&config, &sections, host, &mut out);
    Ok(Loaded { config, warnings: out })
}

/// Takes the `include` lines out of `[daemon]`. Only the main file may include, so that
/// one place shows which files are read.
fn take_includes(sections: &mut [Section]) -> Vec<Text> {
    let mut includes = Vec::new();
    for section in sections.iter_mut().filter(|section| section.kind.bytes == b"daemon") {
        for entry in section.entries.extract_if(.., |entry| entry.key.bytes == b"include") {
            includes.extend(entry.values);
        }
    }
    includes
}

/// The sections of an included file.
fn include(reader: &mut Reader<'_>, (path, asker): &(PathBuf, Span)) -> Vec<Section> {
    let Some((file, text)) = reader.read(path, Asker::Line(*asker)) else { return Vec::new() };
    let mut sections = ini::parse(file, &text, &mut reader.out);
    for item in take_includes(&mut sections) {
        reader.out.error(item.span, "an included file cannot include others: name them in the main file");
    }
    sections
}

#[cfg(test)]
mod tests;
