//! Installed and started: what `--install` and `make install` put into place, and whether init
//! systems take it.
//!
//! What needs a machine of its own is a shell script that runs in a Debian made by
//! `tools/debian-root.sh`; see [`machine`]. A tool that is missing is told, and is an error where
//! everything has to be tested.

mod completions;
mod install;
mod machine;
mod openrc;
mod packages;
mod procd;
mod scripts;
mod systemd;
mod tools;
