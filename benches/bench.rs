//! What the daemon costs, beside bare C loops measured in the same run: `make bench`.
//!
//! Machines differ and are noisy, so what counts is the ratio: both sides take turns, and the
//! medians are compared. Nothing fails here; a value beyond its limit is marked.
//!
//! From the environment: `ONLY` (names of measurements, separated by commas), `QUICK` (a tenth of
//! everything), `IDLE_SECONDS`, `BINARY` (what to measure, else the static binary, else the release
//! one), `BENCH_DIR` (where the files are, else `/dev/shm`).

#![allow(clippy::disallowed_methods, reason = "a stopwatch, which the daemon must not be")]

mod answer;
mod burst;
mod child;
mod files;
mod flat;
mod idle;
mod lab;
mod latency;
mod memory;
mod overflow;
mod process;
mod reload;
mod report;
mod setup;
mod start;
mod storm;
mod tasks;
mod trees;
mod worker;

use std::path::Path;

use lab::Lab;

/// A name for `ONLY`, and what it measures.
type Measurement = (&'static str, fn(&Lab));

const MEASUREMENTS: [Measurement; 15] = [
    ("idle", idle::measure),
    ("memory", memory::measure),
    ("tasks", tasks::measure),
    ("latency", latency::measure),
    ("burst", burst::measure),
    ("flat", flat::measure),
    ("storm", storm::measure),
    ("start", start::measure),
    ("setup", setup::measure),
    ("answer", answer::measure),
    ("trees", trees::measure),
    ("overflow", overflow::measure),
    ("reload", reload::measure),
    ("worker", worker::measure),
    ("files", files::measure),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, make, top, count] = &args[..]
        && make == trees::MAKE
    {
        trees::make(Path::new(top), count.parse().expect("a number"));
        return;
    }
    let lab = Lab::new();
    let only = std::env::var("ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let known = |name: &str| MEASUREMENTS.iter().any(|(known, _)| *known == name);
    if let Some(name) = only.iter().find(|name| !known(name)) {
        let names: Vec<_> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
        eprintln!("ONLY={name}: there is no such measurement, but {}", names.join(", "));
        std::process::exit(2);
    }
    report::head(&lab);
    for (name, measure) in MEASUREMENTS {
        if only.is_empty() || only.contains(&name) {
            measure(&lab);
        }
    }
    report::foot();
}
