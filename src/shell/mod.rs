//! The daemon around the engine.

pub mod host;
