//! The command line: what the user asks for, and the way to the daemon's loop (`run`) or to one
//! that runs already (`ctl`, with `show` for its answer). All of them write through `exit`.

pub mod cli;
pub mod count;
pub mod ctl;
pub mod exit;
pub mod explain;
pub mod install;
pub mod run;
mod show;
