//! engine/mod
