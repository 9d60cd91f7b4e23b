//! config/load
