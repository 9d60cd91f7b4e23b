//! Integration tests: the real binary, a scratch directory, the kernel that runs here.
//!
//! Nothing waits for a time, everything for a condition with a deadline; [`scratch`] has the helpers.
//! That something does not happen is shown by something later that does: events keep their order.

mod attacks;
mod basics;
mod children;
mod command_line;
mod configuration;
mod control;
mod documents;
mod events;
mod explain;
mod faults;
mod files;
mod fuse;
mod hostile_names;
mod jobs;
mod lifecycle;
mod logging;
mod migration;
mod mounting;
mod neighbours;
mod old_kernels;
mod other_filesystems;
mod reload;
mod renames;
mod roots;
mod schedulers;
mod scratch;
mod service_manager;
mod storm;
mod streams;
mod syslog;
mod trust;
mod visits;
mod watching;
mod worker_shutdown;
mod workers;
