//! The manual and the completions, as those read them who are to show them.

use std::fs;
use std::process::Command;

use crate::Place;

#[test]
fn every_page_of_the_manual_is_shown_without_a_warning() {
    let place = Place::new();
    let pages = place.path("pages");
    place.run(&["man", "-o", pages.to_str().unwrap()]).good();
    let mut names = Vec::new();
    for entry in fs::read_dir(&pages).unwrap() {
        let path = entry.unwrap().path();
        let mut man = Command::new("man");
        man.args(["--warnings", "--encoding=UTF-8", "--local-file"]).arg(&path);
        man.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        let output = man.output().expect("man (the package man-db) is there");
        let (shown, said) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.is_empty(), "{}: {said}", path.display());
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"] {
            assert!(shown.lines().any(|line| line == section), "{section} of {}: {shown}", path.display());
        }
        // A line of the source that begins with a space breaks its paragraph (groff_man(7)).
        let source = fs::read_to_string(&path).unwrap();
        let broken = source.lines().find(|line| line.starts_with(' ') && !line.trim().is_empty());
        assert!(broken.is_none(), "{}: {broken:?}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for expected in ["aptpeer.1", "aptpeer-seed-import.1", "aptpeer-daemon.8", "aptpeer.toml.5"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
}

#[test]
fn the_completions_of_bash_know_commands_options_and_values() {
    let place = Place::new();
    let script = place.file("completions", &place.run(&["completions", "bash"]).good());
    // What bash does at the tabulator (bash(1), "Programmable Completion").
    let complete = |words: &str| {
        let ask = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _aptpeer aptpeer \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete("aptpeer boot").trim(), "bootstrap");
    assert_eq!(complete("aptpeer cache p").trim(), "pin");
    assert_eq!(complete("aptpeer status --w").trim(), "--watch");
    assert_eq!(complete("aptpeer --log-level tr").trim(), "trace");
}
