//! Integration tests: the real binary, a scratch directory, the kernel that runs here.
//!
//! Nothing waits for a time, everything for a condition with a deadline; [`scratch`] has the helpers.

mod basics;
mod scratch;
