//! Data structures that know nothing of files or tasks: timers, a table of indices, an arena of names.

pub mod index_table;
pub mod names;
pub mod sorted_queue;
pub mod wheel;
