//! How many lines the tasks of one scheduler may add to the log.
//!
//! A user who may write to a watched directory can make tasks as fast as files, and each makes lines. A
//! scheduler has a stock of lines that refills slowly (a token bucket). What comes on top is counted, and the
//! number is logged once a second.

use crate::engine::store::wheel::TimerId;
use crate::types::Millis;

/// Lines in stock: what 3,000 files make, in about a megabyte.
const LINES_MAX: u64 = 10_000;

/// What is added to the stock in a second: more than anyone reads.
const LINES_PER_SECOND: u64 = 100;

/// The last lines in stock are for errors.
const FOR_ERRORS: u64 = 1_000;

/// Thousandths of a line.
const LINE: u64 = 1_000;

/// See the module's documentation.
#[derive(Debug)]
pub struct LogBudget {
    /// Thousandths of lines, at the moment `at`.
    stock: u64,
    at: Millis,
    /// Lines left out since the number was last logged.
    left_out: u64,
    /// When the number is logged.
    pub timer: Option<TimerId>,
}

impl LogBudget {
    /// A full stock.
    #[must_use]
    pub fn new() -> Self {
        Self { stock: LINES_MAX * LINE, at: 0, left_out: 0, timer: None }
    }

    /// Takes a line from the stock. Returns `false`, and counts, if the line is to be left out.
    pub fn take(&mut self, now: Millis, is_error: bool) -> bool {
        let added = now.saturating_sub(self.at).saturating_mul(LINES_PER_SECOND);
        self.stock = self.stock.saturating_add(added).min(LINES_MAX * LINE);
        self.at = now;
        let kept = if is_error { 0 } else { FOR_ERRORS * LINE };
        let is_there = self.stock >= kept + LINE;
        if is_there {
            self.stock -= LINE;
        } else {
            self.left_out += 1;
        }
        is_there
    }

    /// How many lines were left out since the last call.
    pub fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_so_many_a_second_and_errors_last() {
        let mut budget = LogBudget::new();
        let mut lines = |now: Millis, count: u64, is_error: bool| {
            let passed = (0..count).filter(|_| budget.take(now, is_error)).count() as u64;
            (passed, budget.take_left_out())
        };
        assert_eq!(lines(5, 20_000, false), (LINES_MAX - FOR_ERRORS, 20_000 - LINES_MAX + FOR_ERRORS));
        assert_eq!(lines(6, 100, true), (100, 0), "errors have room");
        // They have taken what a second adds, and some milliseconds add a part of a line.
        assert_eq!(lines(1_005, 100, false), (0, 100));
        assert_eq!(lines(2_005, 200, false), (100, 100));
        assert_eq!(lines(2_014, 1, false), (0, 1));
        assert_eq!(lines(2_015, 2, false), (1, 1));
        assert_eq!(lines(2_015, 5_000, true), (FOR_ERRORS, 4_000));
        assert_eq!(lines(Millis::MAX, 20_000, true), (LINES_MAX, LINES_MAX));
    }
}
