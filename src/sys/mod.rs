//! sys/mod
