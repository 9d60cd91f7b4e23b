//! The `rinotifyd` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(rinotifyd::face::run::main() as u8)
}
