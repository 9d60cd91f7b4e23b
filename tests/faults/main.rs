//! Each system call of a file operation and of a scan, failed once with each error that fits and killed
//! once: nothing is lost, and what is left over is removed. The calls are those that a first traced run
//! makes. `make faults` tries all, `make test` a part.

#[path = "../it/mounting.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use the rest")]
mod mounting;
mod operations;
mod scans;
#[path = "../it/scratch.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use the rest")]
mod scratch;
mod tracing;
