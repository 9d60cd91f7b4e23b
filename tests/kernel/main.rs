//! What the kernel's limits lead to. They are the machine's, so these tests have a process of their
//! own, run one after the other, and put everything back.

#[path = "../it/events.rs"]
#[allow(dead_code, reason = "shared with the other integration tests, which use the rest")]
mod events;
mod limits;
mod overflow;
#[path = "../it/scratch.rs"]
#[allow(dead_code, reason = "shared with the other integration tests, which use the rest")]
mod scratch;
mod sysctl;
