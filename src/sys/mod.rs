//! The only door to the kernel and the C library.

pub mod user;
