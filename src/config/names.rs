//! Names that other sections refer to.

use std::cell::Cell;
use std::collections::HashMap;

use super::diagnostics::{Bad, quoted};
use super::suggest;

/// The most comparisons between unknown names and known ones, in search of corrections. A comparison of two
/// long names takes 10 us, so that a configuration in which every name is wrong costs half a second.
const COMPARISONS_MAX: usize = 50_000;

/// The names of the sections of one kind, in their order.
#[derive(Debug)]
pub struct Names<'a> {
    all: Vec<&'a str>,
    places: HashMap<&'a [u8], usize>,
    comparisons: Cell<usize>,
}

impl<'a> Names<'a> {
    /// The first of several equal names counts. Equal names are an error that is reported elsewhere.
    pub fn new(names: impl Iterator<Item = &'a str>) -> Self {
        let all: Vec<&str> = names.collect();
        let mut places = HashMap::with_capacity(all.len());
        for (place, name) in all.iter().enumerate() {
            places.entry(name.as_bytes()).or_insert(place);
        }
        Self { all, places, comparisons: Cell::new(0) }
    }

    /// Whether the name exists.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.places.contains_key(name)
    }

    /// The place of a name, or an error with the likely correction. `what` is the kind, in words.
    pub fn find(&self, name: &[u8], what: &str) -> Result<usize, Bad> {
        self.places.get(name).copied().ok_or_else(|| {
            Bad::whole(name, format!("there is no {what} {}{}", quoted(name), self.hint(name)))
        })
    }

    /// The likely correction; none after too many comparisons.
    pub fn hint(&self, name: &[u8]) -> String {
        let comparisons = self.comparisons.get() + self.all.len();
        if comparisons > COMPARISONS_MAX.max(self.all.len()) {
            return String::new();
        }
        self.comparisons.set(comparisons);
        suggest::hint(name, self.all.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_or_corrected() {
        let names = Names::new(["convert", "archive", "convert"].into_iter());
        assert_eq!(names.find(b"archive", "scheduler"), Ok(1));
        assert_eq!(names.find(b"convert", "scheduler"), Ok(0));
        let bad = names.find(b"convrt", "scheduler").unwrap_err();
        assert_eq!(bad.message, "there is no scheduler \"convrt\", did you mean convert?");
        assert!(names.contains(b"archive") && !names.contains(b"convrt"));
    }

    #[test]
    fn corrections_have_a_limit() {
        let many: Vec<String> = (0..COMPARISONS_MAX / 10).map(|number| format!("name{number}")).collect();
        let names = Names::new(many.iter().map(String::as_str));
        let hints = (0..1_000).filter(|_| !names.hint(b"nmae1").is_empty()).count();
        assert_eq!(hints, 10);
        // The first is worth it, however many names there are.
        let many: Vec<String> = (0..=COMPARISONS_MAX).map(|number| format!("name{number}")).collect();
        let names = Names::new(many.iter().map(String::as_str));
        assert!(!names.hint(b"nmae1").is_empty() && names.hint(b"nmae1").is_empty());
    }
}
