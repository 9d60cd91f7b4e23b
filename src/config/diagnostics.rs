//! config/diagnostics
