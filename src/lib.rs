//! rinotifyd watches directories with inotify and runs tasks.
//!
//! A pure engine decides, a thin shell does; ARCHITECTURE.md is the map. The modules stand here
//! from the lowest layer to the highest, and each imports only from those above its own line:
//!
//! - words: [`event`], [`types`], [`record`], [`quote`], [`rows`]
//! - pure: [`template`], [`script`], [`replacement`], [`pattern`], [`config`], [`engine`]
//! - the only door to the kernel: [`sys`]
//! - the daemon: [`shell`]
//! - the command line: [`face`]

#![deny(clippy::panic, clippy::unwrap_used)]

pub mod event;
pub mod quote;
pub mod record;
pub mod rows;
pub mod types;

pub mod config;
pub mod engine;
pub mod pattern;
pub mod replacement;
pub mod script;
pub mod template;

pub mod sys;

pub mod shell;

pub mod face;
