//! The command line: what the user asks for, and the way to the daemon's loop.

pub mod cli;
pub mod count;
pub mod run;
