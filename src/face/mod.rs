//! face/mod
