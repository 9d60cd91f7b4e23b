//! How the cost grows with what the daemon is given: rows of sizes, each ten times the one before.
//!
//! A start, its time and its memory, may grow as the size does; the cost of one event and of one task
//! must stay the same. A figure that grows faster is marked.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::lab::{Lab, make_dirs};
use crate::process::{NOTHING, Process, watching};
use crate::report::{self, thousands};

const SIZES: [usize; 5] = [1, 10, 100, 1_000, 10_000];

/// What a quick run stops at.
const QUICK_SIZE_MAX: usize = 1_000;

/// A daemon that needs longer for one size is ended, and its row with it.
const DEADLINE: Duration = Duration::from_secs(20);
const QUICK_DEADLINE: Duration = Duration::from_secs(5);

/// How much more than its share a figure may grow by noise.
const NOISE: f64 = 1.5;

/// One kind of thing that there may be many of.
struct Row {
    /// The things.
    name: &'static str,
    /// What is measured for each size.
    figures: &'static [Figure],
    /// The figures for a size; nothing when the daemon was ended at the deadline.
    measure: fn(&Lab, usize, Duration) -> Option<Vec<f64>>,
}

struct Figure {
    name: &'static str,
    unit: &'static str,
    /// Whether it may grow with the size.
    grows: bool,
    /// What is within the noise of the measurement.
    floor: f64,
    /// A size, and what its figure may be at most.
    limit: Option<(usize, Limit)>,
}

enum Limit {
    Value(f64),
    /// So many times the figure of size 1.
    TimesOne(f64),
}

const TIME: Figure = Figure { name: "start", unit: "ms", grows: true, floor: 10.0, limit: None };
const MEMORY: Figure = Figure { name: "peak RSS", unit: "MiB", grows: true, floor: 0.3, limit: None };
const START: &[Figure] = &[TIME, MEMORY];

const ROWS: [Row; 7] = [
    Row {
        name: "watch sections",
        figures: &[
            Figure { limit: Some((10_000, Limit::Value(2_000.0))), ..TIME },
            Figure { limit: Some((10_000, Limit::Value(40.0))), ..MEMORY },
        ],
        measure: watch_sections,
    },
    Row { name: "schedulers", figures: START, measure: schedulers },
    Row { name: "directories", figures: START, measure: directories },
    Row { name: "paths of a wildcard", figures: START, measure: wildcard_paths },
    Row {
        name: "exclude filters",
        figures: &[Figure {
            name: "an event",
            unit: "us",
            grows: false,
            floor: 0.1,
            limit: Some((1_000, Limit::TimesOne(3.0))),
        }],
        measure: exclude_filters,
    },
    Row {
        name: "exclude globs",
        figures: &[Figure {
            name: "an event",
            unit: "us",
            grows: false,
            floor: 0.1,
            limit: Some((1_000, Limit::TimesOne(3.0))),
        }],
        measure: exclude_globs,
    },
    Row {
        name: "waiting tasks",
        figures: &[
            Figure { name: "each", unit: "us", grows: false, floor: 1.0, limit: None },
            Figure { name: "each", unit: "B", grows: false, floor: 16.0, limit: None },
        ],
        measure: waiting_tasks,
    },
];

pub fn measure(lab: &Lab) {
    report::heading("scale: sizes", ["", "", "tenfold", "limit"]);
    for row in &ROWS {
        measure_row(lab, row);
    }
}

fn measure_row(lab: &Lab, row: &Row) {
    let deadline = if lab.quick { QUICK_DEADLINE } else { DEADLINE };
    let mut results: Vec<Vec<f64>> = Vec::new();
    for size in SIZES.into_iter().filter(|size| !lab.quick || *size <= QUICK_SIZE_MAX) {
        let what = format!("scale: {} {}", thousands(size), row.name);
        let Some(values) = (row.measure)(lab, size, deadline) else {
            report::too_long(&what, deadline);
            return;
        };
        results.push(values);
        for (index, figure) in row.figures.iter().enumerate() {
            let is_reference = matches!(figure.limit, Some((_, Limit::TimesOne(_))));
            if size == 1 && !is_reference {
                continue;
            }
            let values: Vec<f64> = results.iter().map(|values| values[index]).collect();
            print(&format!("{what}, {}", figure.name), figure, size, &values);
        }
    }
}

/// One line, for the last of these values; the first is that of size 1.
fn print(what: &str, figure: &Figure, size: usize, values: &[f64]) {
    let (first, last) = (values[0], values[values.len() - 1]);
    // The start of a daemon costs something however little it is given.
    let base = if figure.grows { first } else { 0.0 };
    let before = values.len().checked_sub(2).map(|index| values[index] - base);
    let grown = before.filter(|before| !before.is_nan() && last - base > figure.floor);
    let growth = grown.map(|before| (last - base) / before.max(figure.floor));
    let growth_max = if figure.grows { 10.0 } else { 1.0 } * NOISE;
    let mark = match growth {
        Some(growth) if growth > growth_max && figure.grows => "over linear",
        Some(growth) if growth > growth_max => "grows",
        _ => "",
    };
    let limit = figure.limit.as_ref().filter(|(at, _)| *at == size);
    let limit = limit.map(|(_, limit)| match limit {
        Limit::Value(value) => *value,
        Limit::TimesOne(times) => times * first,
    });
    report::growth(what, last, figure.unit, growth, limit, mark);
}

/// Milliseconds until the daemon watches everything, and its peak memory in MiB.
fn start(lab: &Lab, config: &str, deadline: Duration) -> Option<Vec<f64>> {
    let begin = Instant::now();
    let daemon = Process::starting(lab, config);
    if !daemon.wait_ready(deadline) {
        return None;
    }
    Some(vec![begin.elapsed().as_secs_f64() * 1_000.0, daemon.proc_status("VmHWM") / 1024.0])
}

fn watch_sections(lab: &Lab, size: usize, deadline: Duration) -> Option<Vec<f64>> {
    let dir = lab.dir();
    let mut config = format!("[scheduler job]\n{NOTHING}\n[event_map map]\nIN_CLOSE_WRITE = job\n");
    for path in make_dirs(dir.path(), size) {
        let name = path.file_name().unwrap().display();
        writeln!(config, "[watch w{name}]\npath = {}\nevent_map = map", path.display()).unwrap();
    }
    start(lab, &config, deadline)
}

fn schedulers(lab: &Lab, size: usize, deadline: Duration) -> Option<Vec<f64>> {
    let dir = lab.dir();
    // Beside the scheduler that every configuration here has.
    let names: Vec<String> = (1..size).map(|number| format!("s{number}")).collect();
    let map = format!("IN_CLOSE_WRITE = job\nIN_MOVED_TO = job {}", names.join(" "));
    let mut config = watching(dir.path(), NOTHING, &map);
    for name in names {
        writeln!(config, "[scheduler {name}]\n{NOTHING}").unwrap();
    }
    start(lab, &config, deadline)
}

fn directories(lab: &Lab, size: usize, deadline: Duration) -> Option<Vec<f64>> {
    let dir = lab.dir();
    for number in 0..size {
        fs::create_dir_all(dir.path().join(format!("{}/{}", number / 100, number % 100))).unwrap();
    }
    start(lab, &watching(dir.path(), NOTHING, "IN_CLOSE_WRITE = job"), deadline)
}

fn wildcard_paths(lab: &Lab, size: usize, deadline: Duration) -> Option<Vec<f64>> {
    let dir = lab.dir();
    for path in make_dirs(dir.path(), size) {
        fs::create_dir(path.join("in")).unwrap();
    }
    start(lab, &watching(&dir.path().join("*/in"), NOTHING, "IN_CLOSE_WRITE = job"), deadline)
}

fn exclude_filters(lab: &Lab, size: usize, deadline: Duration) -> Option<Vec<f64>> {
    excludes(lab, size, deadline, |path, number| format!("exclude_filter = ^{path}/left-out-{number}$"))
}

/// Half of them are about names, and half about paths.
fn exclude_globs(lab: &Lab, size: usize, deadline: Duration) -> Option<Vec<f64>> {
    excludes(lab, size, deadline, |_, number| {
        let folder = if number % 2 == 0 { "" } else { "sub/" };
        format!("exclude_glob = {folder}*.left-out-{number}")
    })
}

/// Microseconds of processor for each event of files that no filter leaves out. The function makes a filter
/// for a watch path and a number.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn excludes(
    lab: &Lab,
    size: usize,
    deadline: Duration,
    filter: impl Fn(&str, usize) -> String,
) -> Option<Vec<f64>> {
    let dir = lab.dir();
    let path = dir.path().display().to_string();
    let mut config = watching(dir.path(), NOTHING, "IN_CLOSE_WRITE = job");
    for number in 0..size {
        writeln!(config, "{}", filter(&path, number)).unwrap();
    }
    let daemon = Process::starting(lab, &config);
    if !daemon.wait_ready(deadline) || !daemon.settle_within(deadline) {
        return None;
    }
    let (cpu, count) = (daemon.cpu_micros(), lab.count(20_000));
    make_files(dir.path(), count);
    if !daemon.settle_within(deadline) {
        return None;
    }
    // Created and closed.
    Some(vec![(daemon.cpu_micros() - cpu) / (2 * count) as f64])
}

/// Microseconds of processor and bytes for each task. A few tasks take no page of their own, so their
/// bytes are not told.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn waiting_tasks(lab: &Lab, size: usize, deadline: Duration) -> Option<Vec<f64>> {
    let dir = lab.dir();
    let scheduler = "type = exec\ncmd = /bin/true {pathname}\ndelay = 1h";
    let daemon = Process::daemon(lab, &watching(dir.path(), scheduler, "IN_CLOSE_WRITE = job"));
    daemon.settle();
    let (cpu, rss) = (daemon.cpu_micros(), daemon.rss_kib());
    make_files(dir.path(), size);
    if !daemon.settle_within(deadline) {
        return None;
    }
    let bytes = (daemon.rss_kib() - rss) * 1024.0 / size as f64;
    let micros = (daemon.cpu_micros() - cpu) / size as f64;
    Some(vec![micros, if size < 1_000 { f64::NAN } else { bytes }])
}

fn make_files(dir: &Path, count: usize) {
    for number in 0..count {
        File::create(dir.join(format!("file-{number:06}"))).unwrap();
    }
}
