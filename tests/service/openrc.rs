//! The init script, under the real OpenRC.

#[test]
fn it_starts_reloads_refuses_and_stops() {
    crate::machine::run(&[], "tests/openrc.sh", &[]);
}
