//! The architecture as a test: rooms import only from layers below their own.
//!
//! The table is the one in docs/architecture.md and is read from there. A room is a file or folder directly under
//! `src/`; rooms of one layer do not import one another.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The head of the table of layers in docs/architecture.md.
const TABLE: &str = "| layer | rooms | kind |";

static LAYERS: LazyLock<Vec<Layer>> = LazyLock::new(|| {
    let layers = read_layers(&document());
    assert!(!layers.is_empty(), "docs/architecture.md has no table {TABLE:?}");
    layers
});

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Layer {
    rooms: Vec<String>,
    /// Its rooms decide: no runtime, no clock, no randomness, no files, no sockets.
    pure: bool,
}

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap()
}

/// The cells of the table with this head, row by row.
fn rows<'a>(document: &'a str, head: &str) -> impl Iterator<Item = Vec<&'a str>> {
    let rows = document.lines().skip_while(move |line| *line != head).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

/// The layers in the order of the table, the lowest first; they must be numbered so.
fn read_layers(document: &str) -> Vec<Layer> {
    rows(document, TABLE)
        .zip(1..)
        .map(|(cells, number): (Vec<&str>, u32)| {
            assert_eq!(cells[0], number.to_string(), "layers are numbered from 1: {cells:?}");
            assert!(matches!(cells[2], "pure" | "acts"), "a layer is `pure` or `acts`: {cells:?}");
            let rooms = cells[1].split_whitespace().map(|room| room.trim_matches('`').to_owned()).collect();
            Layer { rooms, pure: cells[2] == "pure" }
        })
        .collect()
}

/// What a pure room does not name.
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
    LAYERS.iter().position(|layer| layer.rooms.iter().any(|name| name == room))
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
        assert!(
            layer_of(&room).is_some(),
            "{} is in no layer: add `{room}` to docs/architecture.md",
            path.display()
        );
    }
}

#[test]
fn every_room_of_the_table_is_there_and_described() {
    let there: BTreeSet<String> = rooms().into_values().collect();
    let layered: BTreeSet<String> = LAYERS.iter().flat_map(|layer| layer.rooms.clone()).collect();
    let document = document();
    let described: BTreeSet<String> =
        rows(&document, "| room | what it is |").map(|cells| cells[0].trim_matches('`').to_owned()).collect();
    assert_eq!(layered, there, "the table of layers and src/");
    assert_eq!(described, there, "the table of rooms and src/");
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
        if layer_of(&room).is_some_and(|layer| LAYERS[layer].pure) {
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
fn unsafe_code_stays_in_two_files() {
    let users: Vec<_> = rooms().into_keys().filter(|path| code(path).contains("allow(unsafe_code")).collect();
    let may = |path: &PathBuf| path.ends_with("store/mapping.rs") || path.ends_with("cli/arenas.rs");
    assert!(users.iter().all(may), "unsafe outside of store/mapping.rs and cli/arenas.rs: {users:?}");
}

#[test]
fn the_import_reader_sees_what_it_must() {
    let code = "use crate::store::Object; use crate::{http::{a, b}, peer, clock::now}; fn f() { crate::metrics::x() }";
    assert_eq!(imports(code), ["store", "http", "peer", "clock", "metrics"]);
}

#[test]
fn the_table_reader_sees_what_it_must() {
    let document = format!(
        "text\n\n{TABLE}\n| --- | --- | --- |\n| 1 | `a` | pure |\n| 2 | `b` `c` | acts |\n\n| 3 | x | acts |"
    );
    let layer = |rooms: &[&str], pure| Layer { rooms: rooms.iter().map(ToString::to_string).collect(), pure };
    assert_eq!(read_layers(&document), [layer(&["a"], true), layer(&["b", "c"], false)]);
}
