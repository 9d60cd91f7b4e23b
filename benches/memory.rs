//! What a watched directory costs.

use crate::lab::{Lab, make_dirs};
use crate::process::{NOTHING, Process, watching};
use crate::report;

/// Resident with one directory: as large as the static binary may be, since the kernel may map all of it.
const RSS_KIB_MAX: f64 = 1536.0;

/// Not shared with other processes, and not backed by the binary.
const ANONYMOUS_KIB_MAX: f64 = 192.0;

pub fn measure(lab: &Lab) {
    let (one, many) = (lab.dir(), lab.dir());
    make_dirs(one.path(), 1);
    let count = lab.count(20_000);
    make_dirs(many.path(), count);
    let daemon = |dir| {
        let process = Process::daemon(lab, &watching(dir, NOTHING, "IN_CLOSE_WRITE = job"));
        process.settle();
        (process.rss_kib(), process.anonymous_kib())
    };
    let program = |dir| Process::program(lab, "table", &[&dir]).rss_kib();
    let (rss, anonymous) = daemon(one.path());
    let c_rss = program(one.path());
    report::value_beside("memory: RSS, one directory", rss, c_rss, "KiB", RSS_KIB_MAX);
    report::value("memory: anonymous, one directory", anonymous, "KiB", ANONYMOUS_KIB_MAX);
    let (rss_of_many, _) = daemon(many.path());
    let c_rss_of_many = program(many.path());
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let bytes = |difference: f64| difference * 1024.0 / (count - 1) as f64;
    report::value_beside(
        &format!("memory: each further of {count} directories"),
        bytes(rss_of_many - rss),
        bytes(c_rss_of_many - c_rss),
        "B",
        64.0,
    );
}
