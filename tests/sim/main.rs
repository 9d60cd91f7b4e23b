//! The simulation: the engine on a model kernel that is slow, quick, full, and never fair.
//!
//! A seed is a whole run. When one fails, it is printed; `SEED=7 cargo test --test sim NAME` runs it
//! again, `TRACE=1` shows what went in and out. `SEEDS=100000` tries that many. They begin at 0, so a
//! survey that is to find something new shifts the range: `FIRST=5000000 SEEDS=100000 SURVEY=1` tries
//! the 100,000 seeds from 5,000,000 on and prints all that fail.
//!
//! Read in this order: `kernel` (a file tree and inotify on it), `world` (those who change the tree),
//! `shell` and `programs` (carry out what the engine wants), `trees`, `tasks` and `workers` (what must be true), `regressions`
//! (what was not), `visits` (the model visits a directory as the daemon does), `setup` and `rng` (their
//! tools).

mod kernel;
mod programs;
mod regressions;
mod rng;
mod setup;
mod shell;
mod tasks;
mod trees;
mod visits;
mod workers;
mod world;
