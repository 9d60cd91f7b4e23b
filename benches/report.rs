//! The table.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::lab::Lab;

static OVER: AtomicUsize = AtomicUsize::new(0);

/// What is measured, and the names of the columns.
pub fn head(lab: &Lab) {
    let size = std::fs::metadata(&lab.binary).map_or(0, |metadata| metadata.len());
    println!("binary  {} ({size} bytes)", lab.binary.display());
    println!("files   {}{}", lab.folder().display(), if lab.quick { ", a tenth of everything" } else { "" });
    line("", "rinotifyd", "C", "ratio", "limit", "");
}

/// How many limits were not kept.
pub fn foot() {
    match OVER.load(Ordering::Relaxed) {
        0 => println!("all within their limits"),
        count => println!("{count} over their limit"),
    }
}

/// A value with a limit of its own.
pub fn value(what: &str, value: f64, unit: &str, limit: f64) {
    line(what, &number(value, unit), "", "", &number(limit, unit), verdict(value <= limit));
}

/// A value with a limit, beside what C needs.
pub fn value_beside(what: &str, value: f64, reference: f64, unit: &str, limit: f64) {
    line(
        what,
        &number(value, unit),
        &number(reference, unit),
        &ratio_text(value, reference),
        &number(limit, unit),
        verdict(value <= limit),
    );
}

/// A value whose limit is a multiple of what C needs.
pub fn ratio(what: &str, value: f64, reference: f64, unit: &str, limit: f64) {
    line(
        what,
        &number(value, unit),
        &number(reference, unit),
        &ratio_text(value, reference),
        &format!("{limit:.2}x"),
        verdict(value <= limit * reference),
    );
}

/// A value that only explains another.
pub fn remark(what: &str, value: f64, unit: &str) {
    line(what, &number(value, unit), "", "", "", "");
}

/// The names of the columns for the lines that follow: two values, the ratio, the limit.
pub fn heading(what: &str, [value, reference, ratio, limit]: [&str; 4]) {
    line(what, value, reference, ratio, limit, "");
}

/// A value of a row of sizes, and how many times the value before it is; `mark` says what is wrong with
/// that.
pub fn growth(what: &str, value: f64, unit: &str, growth: Option<f64>, limit: Option<f64>, mark: &str) {
    let kept = limit.map(|limit| verdict(value <= limit)).unwrap_or_default();
    let growth = growth.map(|growth| format!("{growth:.1}x")).unwrap_or_default();
    let limit = limit.map(|limit| number(limit, unit)).unwrap_or_default();
    let verdict = [kept, mark].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
    line(what, &number(value, unit), "", &growth, &limit, &verdict);
}

/// A value of which only is known that it is over this.
pub fn too_long(what: &str, deadline: Duration) {
    OVER.fetch_add(1, Ordering::Relaxed);
    line(what, &format!("over {} s", deadline.as_secs()), "", "", "", "over");
}

/// Latencies in milliseconds, with what the 99th percentile and the maximum may be.
pub fn latencies(what: &str, millis: &[f64], p99_max: f64, max: f64) {
    let [p50, p99, worst] = [50, 99, 100].map(|percent| percentile(millis, percent));
    let limit = format!("{p99_max:.0}, {max:.0} ms");
    let verdict = verdict(p99 <= p99_max && worst <= max);
    line(what, &number(p50, "ms"), &number(p99, "ms"), &number(worst, ""), &limit, verdict);
}

fn line(what: &str, value: &str, reference: &str, ratio: &str, limit: &str, verdict: &str) {
    println!("{what:<46} {value:>12} {reference:>12} {ratio:>7} {limit:>12}  {verdict}");
}

fn verdict(holds: bool) -> &'static str {
    if holds {
        "ok"
    } else {
        OVER.fetch_add(1, Ordering::Relaxed);
        "over"
    }
}

fn ratio_text(value: f64, reference: f64) -> String {
    format!("{:.2}x", value / reference)
}

/// A count with commas between thousands.
pub fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits, and the unit.
fn number(value: f64, unit: &str) -> String {
    if value.is_nan() {
        return "-".to_owned();
    }
    let size = value.abs();
    let digits = if size >= 100.0 || value.fract() == 0.0 {
        0
    } else if size >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

/// The middle one; the mean of both when there are two.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The value below which so many of a hundred are.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    let position = last * percent;
    let (low, rest) = (position / 100, position % 100);
    if rest == 0 { sorted[low] } else { f64::midpoint(sorted[low], sorted[low + 1]) }
}
