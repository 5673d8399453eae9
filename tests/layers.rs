//! The architecture as a test: rooms import only from layers below their own.
//!
//! The table is that of docs/architecture.md. A room is a file or folder directly under `src/`; rooms on one line do
//! not import one another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const LAYERS: &[&[&str]] = &[
    &["digest"],
    &["debian", "pieces", "wire"],
    &["swarm"],
    &["clock", "metrics"],
    &["http", "store"],
    &["mirror", "discovery", "peer"],
    &["index", "download", "announcer"],
    &["proxy", "status"],
    &["config"],
    &["daemon"],
    &["cli"],
];

/// Rooms that decide: no runtime, no clock, no randomness, no files, no sockets.
const PURE: &[&str] = &["digest", "debian", "pieces", "wire", "swarm"];

const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "reqwest",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant::now",
    "SystemTime::now",
];

fn layer_of(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&room))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every file under `src/` with its room; `main.rs` and `lib.rs` belong to none.
fn rooms() -> BTreeMap<PathBuf, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files
        .into_iter()
        .filter_map(|path| {
            let first = path.strip_prefix(&src).unwrap().components().next().unwrap();
            let room = Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned();
            (room != "main" && room != "lib").then_some((path, room))
        })
        .collect()
}

/// The code of a file without its comments and its unit tests (which may use doubles of other rooms).
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that `code` names: `crate::room`, also in `crate::{a, b::c}`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0_i32;
                let end = list.find(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    depth < 0
                });
                top_level_items(&list[..end.unwrap_or(list.len())])
            }
            None => vec![rest],
        };
        for name in names {
            let room: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !room.is_empty() {
                found.push(room);
            }
        }
    }
    found
}

fn top_level_items(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&list[start..]);
    items
}

#[test]
fn every_room_is_in_the_table() {
    for (path, room) in rooms() {
        assert!(layer_of(&room).is_some(), "{} is in no layer: add `{room}` to the table", path.display());
    }
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (path, room) in rooms() {
        for import in imports(&code(&path)) {
            let Some(below) = layer_of(&import) else { continue };
            if import != room && Some(below) >= layer_of(&room) {
                wrong.push(format!("{} ({room}) imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    let mut wrong = Vec::new();
    for (path, room) in rooms() {
        if PURE.contains(&room.as_str()) {
            let code = code(&path);
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("{}: {word}", path.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "pure rooms that reach outside:\n{}", wrong.join("\n"));
}

#[test]
fn the_clock_is_read_in_one_place() {
    let readers: Vec<_> = rooms()
        .into_iter()
        .filter(|(path, room)| {
            let code = code(path);
            room != "clock" && (code.contains("Instant::now(") || code.contains("SystemTime::now("))
        })
        .map(|(path, _)| path)
        .collect();
    assert!(readers.is_empty(), "these read the time themselves, use crate::clock: {readers:?}");
}

#[test]
fn unsafe_code_stays_in_one_file() {
    let users: Vec<_> = rooms()
        .into_keys()
        .filter(|path| code(path).contains("allow(unsafe_code"))
        .map(|p| p.file_name().unwrap().to_owned())
        .collect();
    assert!(users.iter().all(|file| file == "mapping.rs"), "unsafe outside store/mapping.rs: {users:?}");
}

#[test]
fn the_import_reader_sees_what_it_must() {
    let code = "use crate::store::Object; use crate::{http::{a, b}, peer, clock::now}; fn f() { crate::metrics::x() }";
    assert_eq!(imports(code), ["store", "http", "peer", "clock", "metrics"]);
}
