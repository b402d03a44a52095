//! The tour: a shop's lake in a temporary folder, and machine learning over it in SQL; as `dfml demo --tour`.
//!
//! It is an example so that it shares every dependency, as it is built, with the tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    let given = std::env::args_os().skip(1);
    datafusion_ml::shell::run_with(["dfml", "demo", "--tour"].map(Into::into).into_iter().chain(given))
}
