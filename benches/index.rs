//! What it costs to read the largest index of a Debian archive, in each compression.
//!
//! `cargo bench --bench index`. It takes the largest Packages of apt's lists on this machine, or makes one of the same
//! shape, and prints seconds, seconds of one core, and by how much the process grew at its peak. Reading has to
//! stay below one second of one core and 64 MiB for everything but bzip2.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use aptpeer::digest::Sha256;
use aptpeer::index::{Expected, IndexKind, read_table};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    // Each format is measured in a process of its own, so that no memory left over from another hides its growth.
    if let [_, word, name, path, digest] = &args[..]
        && word == "measure"
    {
        let digest = digest.parse().expect("a digest");
        let expected = if name == "lists" { Expected::Content(digest) } else { Expected::Stored(digest) };
        measure(name, Path::new(path), expected);
        return;
    }
    let (origin, text) = packages();
    println!("{origin}: {:.1} MB", text.len() as f64 / 1e6);
    println!(
        "{:6} {:>9} {:>9} {:>9} {:>9} {:>11}",
        "format", "size MB", "entries", "seconds", "core s", "growth MiB"
    );
    let path = std::env::temp_dir().join(format!("aptpeer-bench-{}", std::process::id()));
    for (name, compress) in FORMATS {
        let packed = compress(&text);
        fs::write(&path, &packed).expect("room for a compressed file");
        // apt's own lists are verified by their content.
        let digest = Sha256::of(if name == "lists" { &text } else { &packed });
        let program = std::env::current_exe().expect("a path of this program");
        let measured =
            Command::new(program).args(["measure", name]).arg(&path).arg(digest.to_string()).status();
        assert!(measured.expect("a process for the measurement").success(), "{name} could not be read");
    }
    let _ = fs::remove_file(&path);
}

fn measure(name: &str, path: &Path, expected: Expected) {
    const ROUNDS: u32 = 5;
    let size = fs::metadata(path).expect("the file that was written").len();
    let mut best = (Duration::MAX, Duration::MAX);
    let (before, mut entries) = (status_kib("VmRSS:"), 0);
    for _ in 0..ROUNDS {
        let (began, cpu) = (Instant::now(), cpu_time());
        let file = fs::File::open(path).expect("the file that was written");
        let table = read_table(file, IndexKind::Packages, expected).expect("an index that can be read");
        best = (best.0.min(began.elapsed()), best.1.min(cpu_time() - cpu));
        entries = table.len();
    }
    println!(
        "{name:6} {:9.1} {entries:9} {:9.3} {:9.3} {:11.1}",
        size as f64 / 1e6,
        best.0.as_secs_f64(),
        best.1.as_secs_f64(),
        status_kib("VmHWM:").saturating_sub(before) as f64 / 1024.0
    );
}

/// The time on a core of this thread, which does all the work: the first field of `schedstat`, in nanoseconds.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with scheduler statistics");
    let nanoseconds = stat.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number of nanoseconds"))
}

/// A field of proc(5)'s `status` in KiB: `VmRSS` is what is used now, `VmHWM` its peak.
fn status_kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a memory field");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

/// The largest Packages of this machine, or one of the same shape.
fn packages() -> (String, Vec<u8>) {
    let lists = fs::read_dir("/var/lib/apt/lists").into_iter().flatten().flatten();
    let largest = lists
        .filter(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        .max_by_key(|entry| entry.metadata().map_or(0, |metadata| metadata.len()));
    if let Some(entry) = largest {
        let name = entry.file_name().to_string_lossy().into_owned();
        let packed = fs::read(entry.path()).expect("a readable list");
        let text = if name.ends_with(".lz4") {
            let mut text = Vec::new();
            lz4_flex::frame::FrameDecoder::new(&packed[..]).read_to_end(&mut text).expect("a good list");
            text
        } else {
            packed
        };
        if text.len() > 30_000_000 && text.starts_with(b"Package: ") {
            return (name, text);
        }
    }
    ("made up".to_owned(), synthetic())
}

fn synthetic() -> Vec<u8> {
    const PACKAGES: u32 = 65_000;
    let mut text = Vec::new();
    for n in 0..PACKAGES {
        let sum = Sha256::of(&n.to_le_bytes());
        let name = format!("package{n}-{}", &sum.to_string()[..6]);
        let depends: Vec<String> =
            sum.as_bytes()[..12].iter().map(|b| format!("libpackage{b} (>= 1.{}~rc1)", b % 9)).collect();
        writeln!(
            text,
            "Package: {name}\nVersion: 1.{n}+dfsg-1\nInstalled-Size: {n}\nMaintainer: Some Team <team@example.org>\n\
             Architecture: amd64\nDepends: {}\nDescription: the package with the number {n}\n\
             Description-md5: {}\nTag: implemented-in::c, role::program,\n uitoolkit::gtk, works-with::text\n\
             Section: misc\nPriority: optional\nFilename: pool/main/p/{name}/{name}_1.{n}+dfsg-1_amd64.deb\n\
             Size: {n}\nMD5sum: {}\nSHA256: {sum}\n",
            depends.join(", "),
            &sum.to_string()[..32],
            &sum.to_string()[32..]
        )
        .expect("writing to memory");
    }
    text
}

type Compress = fn(&[u8]) -> Vec<u8>;
const FORMATS: [(&str, Compress); 7] = [
    ("plain", <[u8]>::to_vec),
    ("gz", gzip),
    ("xz", xz),
    ("zst", zstd),
    ("lz4", lz4),
    ("bz2", bzip2),
    ("lists", lz4),
];

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("writing to memory")
}

fn xz(text: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("writing to memory")
}

/// By the real compressor where it is installed: ours has only its fastest level, which decompresses differently.
fn zstd(text: &[u8]) -> Vec<u8> {
    let ours = || ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest);
    real_zstd(text).unwrap_or_else(ours)
}

fn real_zstd(text: &[u8]) -> Option<Vec<u8>> {
    use std::process::{Command, Stdio};
    let path = std::env::temp_dir().join(format!("aptpeer-bench-{}.txt", std::process::id()));
    fs::write(&path, text).ok()?;
    let output = Command::new("zstd").args(["-q", "-c", "-15"]).arg(&path).stderr(Stdio::null()).output();
    let _ = fs::remove_file(&path);
    output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
}

fn lz4(text: &[u8]) -> Vec<u8> {
    let mut layout = lz4_flex::frame::FrameInfo::new();
    layout.block_mode = lz4_flex::frame::BlockMode::Linked;
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(layout, Vec::new());
    encoder.write_all(text).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

fn bzip2(text: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("writing to memory")
}
