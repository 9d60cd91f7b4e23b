//! Large configurations, valid and invalid. The cost must grow with the size. If it grew with the square of
//! the size, a configuration would take minutes instead of a second; the limit allows for a busy machine.

use std::io;
use std::path::{Path, PathBuf};

use rinotifyd::config::diagnostics::{Diagnostics, SHOWN_MAX};
use rinotifyd::config::filter::Filters;
use rinotifyd::config::host::Host;
use rinotifyd::config::load::{Loaded, load};
use rinotifyd::config::trust::Part;
use rinotifyd::config::{Action, Trigger};
use rinotifyd::event::EventKind;
use rinotifyd::pattern::PathPattern;
use rinotifyd::sys::clock::{micros, now};
use rinotifyd::types::{Identity, Millis};

/// A machine with one file.
struct One(String);

impl Host for One {
    fn read(&self, path: &Path, _: &mut dyn FnMut(Part<'_>) -> bool) -> io::Result<Option<Vec<u8>>> {
        if path != Path::new("m") {
            return Err(io::Error::other("no such file"));
        }
        Ok(Some(self.0.clone().into()))
    }

    fn list(&self, base: &Path, _: &PathPattern) -> io::Result<Vec<PathBuf>> {
        Ok(vec![base.join("x.conf")])
    }

    fn exists(&self, _: &[u8]) -> bool {
        false
    }

    fn has_match(&self, _: &PathPattern) -> bool {
        true
    }

    fn finds_program(&self, _: &[u8]) -> bool {
        true
    }

    fn user(&self, _: &str, _: Option<u32>) -> io::Result<Option<Identity>> {
        Ok(None)
    }

    fn group(&self, _: &str) -> io::Result<Option<u32>> {
        Ok(None)
    }

    fn is_root(&self) -> bool {
        false
    }
}

fn loaded(text: impl Into<String>) -> Result<Loaded, Diagnostics> {
    load(Path::new("m"), &One(text.into()))
}

const SCHEDULER: &str = "[scheduler s]\ntype = shell\ncmd = id\n";
const REST: &str = "[event_map m]\nIN_CREATE = s\n[watch w]\npath = /p\nevent_map = m\n";

const LIMIT_MS: Millis = 30_000;

/// A quarter of what a file may hold, for the sake of builds that are not optimized.
const SIZE: usize = 1 << 18;

fn in_time<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = now();
    let result = work();
    let took_ms = now() - start;
    assert!(took_ms < LIMIT_MS, "{what}: {took_ms} ms");
    result
}

/// A line again and again, numbered, after what comes first.
fn repeated(first: &str, line: impl Fn(usize) -> String) -> String {
    let mut text = first.to_owned();
    (0..)
        .map(line)
        .take_while(|line| {
            let fits = text.len() + line.len() <= SIZE;
            if fits {
                text.push_str(line);
            }
            fits
        })
        .last();
    text
}

#[test]
fn ten_thousand_of_everything_are_read() {
    let one = |at: usize| {
        format!(
            "[scheduler s{at}]\ntype = exec\ncmd = id\n[event_map m{at}]\nIN_OPEN = s{at}\n\
             [watch w{at}]\npath = /p/{at}\nevent_map = m{at}\n[rule r{at}]\naction = delete\nsrc_re = x\n"
        )
    };
    let rules: Vec<String> = (0..10_000).map(|at| format!("r{at}")).collect();
    let text: String = (0..9_999).map(one).collect::<String>()
        + "[rule r9999]\naction = delete\nsrc_re = y\n[scheduler last]\ntype = files\nrules = "
        + &rules.join(" ")
        + "\n[watch last]\npath = /last\ndefault_sched = last s7\n";
    let config = in_time("ten thousand", || loaded(&text).unwrap_or_else(|errors| panic!("{errors}")).config);
    assert_eq!(
        (config.schedulers.len(), config.watches.len(), config.event_maps.len()),
        (10_000, 10_000, 10_000)
    );
    assert_eq!(
        config.event_maps[config.watches[5_000].event_map].triggers(EventKind::Open),
        [Trigger::Schedule(5_000)]
    );
    let Action::Files { rules } = &config.schedulers[9_999].action else { panic!("not files") };
    assert_eq!((rules.len(), rules[9_999].src.as_str()), (10_000, r"\A(?:y)"));
}

#[test]
fn a_file_full_of_errors_is_judged_in_time() {
    let schedulers: String =
        (0..5_000).map(|at| format!("[scheduler name{at}]\ntype = exec\ncmd = id\n")).collect();
    let cases = [
        ("no sections", repeated("", |_| "x\n".into())),
        ("no values", repeated("[daemon]\n", |_| "x\n".into())),
        ("unknown sections", repeated("", |_| "[x]\n".into())),
        ("unknown keys", repeated("[watch w]\n", |_| "exlude_filter=\n".into())),
        ("sections that stand twice", repeated("", |_| "[log]\n".into())),
        ("keys that stand twice", repeated("[watch w]\n", |_| "rec=\n".into())),
        ("values", repeated("[watch w]\n", |at| format!("[watch w{at}]\nrec = z\n"))),
        (
            "unknown names",
            repeated(&format!("{schedulers}[event_map m]\n"), |at| format!("IN_OPEN = nmae{at}\n")),
        ),
        ("a long line", repeated(&format!("{schedulers}[event_map m]\nIN_OPEN = "), |_| "nmae1 ".into())),
        ("a word again", repeated(&format!("{SCHEDULER}[event_map m]\nIN_OPEN = "), |_| "s ".into())),
        ("rules", repeated("[rule r]\n[scheduler s]\ntype = files\nrules =", |at| format!(" r{at}"))),
        ("items", repeated("[watch w]\npath = a\n", |_| " b\n".into())),
        ("filters of one watch", repeated("[watch w]\nexclude_filter =\n", |_| " (\n".into())),
        ("filters of many watches", repeated("", |at| format!("[watch w{at}]\nexclude_filter=(\n"))),
        ("includes", repeated("[daemon]\ninclude =\n", |at| format!(" x{at}\n"))),
        ("one value", repeated("[watch w]\nrec = ", |_| "\u{202e}x".into())),
    ];
    for (what, text) in cases {
        let shown = in_time(what, || loaded(&text).unwrap_err().to_string());
        assert!(shown.len() < 200_000, "{what}: {} bytes", shown.len());
        assert!(shown.matches(": error: ").count() <= SHOWN_MAX, "{what}");
        if !matches!(what, "no sections" | "one value" | "filters of one watch" | "keys that stand twice") {
            let last = shown.lines().last().unwrap();
            assert!(
                last.contains(" more error") && last.ends_with("only the first 100 of a kind are shown"),
                "{what}: {last}"
            );
        }
    }
}

#[test]
fn a_command_full_of_mistakes_is_judged_in_time() {
    let text = repeated("[scheduler s]\ntype = exec\ncmd = a ", |_| "{pathnam} > ".into());
    let said = in_time("a command", || loaded(format!("{text}\n{REST}")).unwrap().warnings.to_string());
    assert!(said.ends_with(" more warnings: only the first 100 of a kind are shown\n"), "{said:.300}");
}

/// Without an automaton, which is what a cache that is too small means, a thousand filters take a
/// thousand times as long as one. The limit allows for a machine that is busy.
#[test]
fn a_thousand_cost_hardly_more_than_one() {
    let one = Filters::new(&[r"\A(?:^/srv/d0/.*\.tmp$)".to_owned()]).unwrap();
    let texts: Vec<String> = (0..1_000).map(|number| format!(r"\A(?:^/srv/d{number}/.*\.tmp$)")).collect();
    let many = Filters::new(&texts).unwrap();
    let [one, many] = [one, many].map(|filters| {
        let runs = (0..20).map(|_| {
            let before = micros();
            for number in 0..200 {
                assert!(!filters.matches(format!("/srv/d{}/file-{number}.jpg", number % 7).as_bytes()));
            }
            micros() - before
        });
        runs.min().unwrap()
    });
    assert!(many <= one.max(1) * 20, "{many} {one}");
}

#[test]
fn a_watch_has_a_limit_of_filters() {
    let filters = |count: usize| (0..count).map(|at| format!("  ^/p/{at}$\n")).collect::<String>();
    let load = |count| loaded(format!("{SCHEDULER}{REST}exclude_filter =\n{}", filters(count)));
    let config = in_time("filters", || load(10_000)).unwrap_or_else(|errors| panic!("{errors}")).config;
    assert!(config.watches[0].excludes(b"/p/9999") && !config.watches[0].excludes(b"/p/10000"));
    let said = load(10_001).unwrap_err().to_string();
    assert!(said.contains("error: there are more than 10000 exclude filters"), "{said:.300}");
}
