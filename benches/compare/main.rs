//! Comparisons of the built `aptpeer` with real rivals on loopback: `benches/run` starts them, `benches/README.md` says
//! what each figure means.
//!
//! Every figure is a ratio from interleaved runs, since absolute times belong to one machine at one moment.
#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub)]

mod cacher;
mod download;
mod first_byte;
mod fixture;
mod load;
mod machine;
mod memory;
mod nginx;
mod node;
mod process;
mod rounds;
mod seed;
mod serve;
mod torrent;

#[path = "../../tests/support/mod.rs"]
mod support;

use rounds::Scale;

const COMPARISONS: &[(&str, fn(&Scale))] = &[
    ("serve", serve::run),
    ("first-byte", first_byte::run),
    ("download", download::run),
    ("memory", memory::run),
    ("seed", seed::run),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` says so; `cargo test --all-targets` runs benches too, and must not wait for minutes.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without --bench: use benches/run");
        return;
    }
    let wanted: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|name| !name.starts_with("--")).collect();
    if let Some(unknown) = wanted.iter().find(|name| !COMPARISONS.iter().any(|(known, _)| known == *name)) {
        let names: Vec<&str> = COMPARISONS.iter().map(|(name, _)| *name).collect();
        eprintln!("no comparison is called {unknown}; there are {}", names.join(", "));
        std::process::exit(2);
    }
    let scale = Scale::from_environment();
    machine::describe();
    for (name, run) in COMPARISONS {
        if wanted.is_empty() || wanted.contains(name) {
            run(&scale);
        }
    }
}
