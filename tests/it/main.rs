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
mod events;
mod explain;
mod faults;
mod files;
mod foreign;
mod fuse;
mod hostile_names;
mod life;
mod logging;
mod looking;
mod mounting;
mod moving_house;
mod old_kernels;
mod reload;
mod renames;
mod roots;
mod schedulers;
mod scratch;
mod service_manager;
mod storm;
mod streams;
mod syslog;
mod watching;
mod worker_shutdown;
mod workers;
