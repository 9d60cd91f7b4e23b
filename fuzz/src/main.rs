//! Fuzzing: bytes from outside, whatever they are, make neither a panic nor a hang nor growth.
//!
//! `make fuzz` builds this with libFuzzer and runs each target for a while, from its seeds in `seeds/` and from
//! what earlier runs found in `corpus/`. The target is named by `FUZZ_TARGET`.

#![no_main]

mod machine;
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 7] = [
    ("events", targets::events),
    ("configuration", targets::configuration),
    ("arguments", targets::arguments),
    ("globs", targets::globs),
    ("replacement", targets::replacement),
    ("answers", targets::answers),
    ("control", targets::control),
];

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    found.unwrap_or_else(|| panic!("FUZZ_TARGET is one of {}", names.join(", "))).1
}

fuzz_target!(|data: &[u8]| CHOSEN.get_or_init(chosen)(data));
