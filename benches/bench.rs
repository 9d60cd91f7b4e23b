//! What the daemon costs, beside bare C loops measured in the same run: `make bench`.
//!
//! Machines differ and are noisy, so what counts is the ratio: both sides take turns, and the
//! medians are compared. A value beyond its limit is marked, and does not fail the run: only a
//! measurement that does not end well does.
//!
//! From the environment: `ONLY` (names of measurements, separated by commas), `QUICK` (a tenth of
//! everything), `IDLE_SECONDS`, `BINARY` (what to measure, else the static binary, else the release
//! one), `BENCH_DIR` (where the files are, else `/dev/shm`).

#![allow(clippy::disallowed_methods, reason = "a stopwatch, which the daemon must not be")]

mod answer;
mod attacks;
mod burst;
mod child;
mod files;
mod flat;
mod idle;
mod lab;
mod latency;
mod memory;
mod neighbours;
mod overflow;
mod process;
mod reload;
mod report;
mod scale;
mod setup;
mod start;
mod storm;
mod tasks;
mod trees;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lab::Lab;

/// A name for `ONLY`, and what it measures.
type Measurement = (&'static str, fn(&Lab));

const MEASUREMENTS: [Measurement; 17] = [
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
    ("scale", scale::measure),
    ("neighbours", neighbours::measure),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, make, top, count] = &args[..]
        && make == trees::MAKE
    {
        trees::make(Path::new(top), count.parse().expect("a number"));
        return;
    }
    if let [_, tool, name, dir, size] = &args[..]
        && tool == attacks::TOOL
    {
        attacks::main(name, Path::new(dir), size.parse().expect("a number"));
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
    let mut failed = Vec::new();
    for (name, measure) in MEASUREMENTS {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        // The panic hook has printed why.
        if catch_unwind(AssertUnwindSafe(|| measure(&lab))).is_err() {
            println!("{name}: did not end well");
            failed.push(name);
        }
    }
    report::foot();
    if !failed.is_empty() {
        eprintln!("measurements that did not end well: {}", failed.join(", "));
        // What exit() would not drop: the temporary folder.
        drop(lab);
        std::process::exit(1);
    }
}
