//! config/ini
