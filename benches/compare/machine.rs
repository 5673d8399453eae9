//! What was measured, and on what.

use std::fs;
use std::process::Command;

/// How each tool says its version.
const TOOLS: &[(&str, &[&str])] = &[
    (env!("CARGO_BIN_EXE_aptpeer"), &["version"]),
    ("nginx", &["-v"]),
    ("aria2c", &["--version"]),
    ("curl", &["--version"]),
    ("dpkg-query", &["--show", "apt-cacher-ng"]),
    (super::torrent::PYTHON, &["-c", "import libtorrent; print('libtorrent', libtorrent.__version__)"]),
];

/// Prints the machine, its load and the versions of the tools.
pub fn describe() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = read("/proc/cpuinfo");
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name);
    println!(
        "machine: {cores} cores,{}, Linux {}",
        model.unwrap_or(" ?"),
        read("/proc/sys/kernel/osrelease").trim()
    );
    println!("load average at the start: {}", read("/proc/loadavg").trim());
    for (tool, arguments) in TOOLS {
        println!("tool: {}", version(tool, arguments).unwrap_or_else(|| format!("{tool}: not installed")));
    }
}

/// The first line that mentions a version.
fn version(tool: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(tool).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let digits = |line: &&str| line.contains(|c: char| c.is_ascii_digit());
    text.lines().find(digits).map(|line| line.chars().take(70).collect())
}
