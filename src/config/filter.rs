//! The exclude filters of a watch, as one automaton. An event costs about the same with one filter and with
//! a thousand.
//!
//! A [`RegexSet`] finds with one pass over a path whether any of its expressions matches. The name of the
//! filter takes a second pass, and only a path that matches gets one.

use regex::bytes::{RegexSet, RegexSetBuilder};

use super::expression;

/// Compiled size of one set. One expression always fits, because its own limit is the same. About 2,000
/// ordinary filters fit. More filters make several sets.
const SET_SIZE_MAX: usize = expression::SIZE_MAX;

/// The filters. Each is anchored at the start of the path.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    sets: Vec<RegexSet>,
}

impl Filters {
    /// From expressions that [`expression::anchored`] has made.
    ///
    /// # Errors
    ///
    /// The expression that is too large.
    pub fn new(expressions: &[String]) -> Result<Self, String> {
        let mut sets = Vec::new();
        let mut rest = vec![expressions];
        while let Some(some) = rest.pop() {
            match (build(some), some) {
                (_, []) => {}
                (Ok(set), _) => sets.push(set),
                (Err(_), [one]) => return Err(one.clone()),
                (Err(_), more) => {
                    let (first, second) = more.split_at(more.len() / 2);
                    rest.extend([second, first]);
                }
            }
        }
        Ok(Self { sets })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Whether one of them matches.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        self.sets.iter().any(|set| set.is_match(path))
    }

    /// The first that matches, as it stands in the configuration.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<&str> {
        let set = self.sets.iter().find(|set| set.is_match(path))?;
        let place = set.matches(path).iter().next()?;
        set.patterns().get(place).map(|text| expression::shown(text))
    }

    /// The place of the first that matches among the expressions.
    #[must_use]
    pub fn find_place(&self, text: &[u8]) -> Option<usize> {
        let mut before = 0;
        for set in &self.sets {
            if set.is_match(text) {
                return set.matches(text).iter().next().map(|place| before + place);
            }
            before += set.len();
        }
        None
    }

    /// All of them, as they stand in the configuration.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().flat_map(RegexSet::patterns).map(|text| expression::shown(text))
    }
}

fn build(expressions: &[String]) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(expressions)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(SET_SIZE_MAX)
        .dfa_size_limit(expression::CACHE_MAX)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filters(texts: &[&str]) -> Filters {
        let anchored = |text: &&str| expression::anchored(text.as_bytes()).unwrap();
        Filters::new(&texts.iter().map(anchored).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_first_that_matches_is_named() {
        let filters = filters(&["^/a/x", "/a", "(?x) /b # comment", "^/a/y$"]);
        let check = |path: &str, expected| {
            assert_eq!((filters.find(path.as_bytes()), filters.matches(path.as_bytes())), expected, "{path}");
        };
        check("/a/x", (Some("^/a/x"), true));
        check("/a/y", (Some("/a"), true));
        check("/b", (Some("(?x) /b # comment"), true));
        check("/c/a", (None, false));
        assert_eq!(filters.texts().collect::<Vec<_>>(), ["^/a/x", "/a", "(?x) /b # comment", "^/a/y$"]);
        assert!(
            !filters.is_empty() && Filters::default().is_empty() && Filters::new(&[]).unwrap().is_empty()
        );
    }

    #[test]
    fn what_is_too_large_for_one_set_is_several() {
        let texts: Vec<String> =
            (0..5_000).map(|number| format!(r"\A(?:^/srv/d{number}/.*\.tmp$)")).collect();
        let filters = Filters::new(&texts).unwrap();
        assert!((2..10).contains(&filters.sets.len()), "{}", filters.sets.len());
        assert_eq!(filters.texts().count(), 5_000);
        for number in [0, 2_499, 2_500, 4_999] {
            let expected = format!(r"^/srv/d{number}/.*\.tmp$");
            let path = format!("/srv/d{number}/x.tmp");
            assert_eq!(filters.find(path.as_bytes()), Some(expected.as_str()));
            assert_eq!(filters.find_place(path.as_bytes()), Some(number));
        }
        assert_eq!(Filters::new(&[r"\A(?:(?:.{1000}){1000})".to_owned()]).unwrap_err().len(), 23);
    }

    proptest! {
        #[test]
        fn a_set_says_what_its_expressions_say(
            texts in prop::collection::vec("[ab.*/]{0,4}", 0..6), path in "[ab/\n]{0,6}"
        ) {
            let valid: Vec<(&String, String)> = texts.iter()
                .filter_map(|text| Some((text, expression::anchored(text.as_bytes()).ok()?))).collect();
            let filters = Filters::new(&valid.iter().map(|(_, anchored)| anchored.clone()).collect::<Vec<_>>()).unwrap();
            let expected = valid.iter()
                .find(|(text, _)| expression::compile(text.as_bytes()).unwrap().is_match(path.as_bytes()))
                .map(|(text, _)| text.as_str());
            prop_assert_eq!(filters.find(path.as_bytes()), expected);
            prop_assert_eq!(filters.matches(path.as_bytes()), expected.is_some());
        }
    }
}
