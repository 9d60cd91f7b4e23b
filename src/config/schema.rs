//! config/schema
