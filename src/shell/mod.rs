//! The daemon around the engine: what the kernel says becomes inputs, effects become system calls.
//!
//! Read `daemon` first, then `reactor` (whom it waits for), `scan`, `mounts`, `children`, `workers` and
//! `fileops` (what it does), `log` and `lines` (what it says), `control` and `notify` (whom it talks
//! to), `host` (where the configuration comes from). Nothing here
//! decides what the engine could decide.

pub mod children;
pub mod control;
pub mod daemon;
pub mod fileops;
pub mod host;
pub mod lines;
pub mod log;
pub mod look;
pub mod mounts;
pub mod notify;
pub mod reactor;
pub mod scan;
pub mod workers;
