//! argv → [`aptpeer::cli`] → exit code, nothing else.

fn main() -> std::process::ExitCode {
    aptpeer::cli::run(std::env::args_os())
}
