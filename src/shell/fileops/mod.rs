//! File operations. Worker threads carry them out, because they block. They are safe for a daemon that
//! runs as root in directories that other users can write to.
//!
//! Read from the bottom up:
//!
//! - what all files use: `entry` (a name in a directory), `control` and `failure`, `walk` (through a
//!   tree by descriptors), `attributes`, `rename_new`, `remove`;
//! - copying: `data` (the bytes of one file), `copy` (one file, or a tree), `compare`;
//! - the daemon's own directories: `private` (in which a copy is made), `replaced` (in which a replaced
//!   tree waits), `parked` (in which a moved tree is removed), `sweep` (what a killed daemon left behind);
//! - from paths to descriptors: `locate`, with `dir_cache`;
//! - one operation: `op_run` (its state), `install` (giving the destination's name to what is complete),
//!   `rename` (moving within a filesystem) and `across` (to another one), with `after_move` (what
//!   follows a move of a tree) and `inode_locks`; `relocate` chooses between them;
//! - `execute` carries out one operation, and `pool` runs the threads.
//!
//! Every file here keeps these rules:
//!
//! - A name is used relative to a descriptor, one component at a time. No symbolic link is followed
//!   behind the part of a path that the administrator wrote.
//! - Attributes are set through a descriptor, and only on what was checked through the same descriptor.
//! - What a number from a filesystem leads to is bounded: it is checked where it enters, in `sys`.
//! - Nothing is made or changed under a name that other users can reach: it is made in a private
//!   directory, and renamed when it is complete.
//! - A failure is one [`failure::Failure`], and what had been started is undone.

mod across;
mod after_move;
mod attributes;
mod compare;
pub mod control;
mod copy;
mod data;
mod dir_cache;
mod entry;
mod execute;
pub mod failure;
mod inode_locks;
mod install;
mod locate;
mod op_run;
mod parked;
pub mod pool;
mod private;
mod relocate;
mod remove;
mod rename;
mod rename_new;
mod replaced;
mod sweep;
mod walk;

#[cfg(test)]
mod tests;
