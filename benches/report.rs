//! The table.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::lab::Lab;

static OVER: AtomicUsize = AtomicUsize::new(0);

/// What is measured, and above the columns what they are.
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

/// Three digits, and the unit.
fn number(value: f64, unit: &str) -> String {
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
