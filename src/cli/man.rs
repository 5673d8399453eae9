//! `aptpeer man` and `aptpeer completions`: written from the one definition of each command, option and key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use roff::{Roff, bold, italic, roman};

use super::examples::examples;
use super::output::{Failure, remedy};
use super::{Arguments as CommandLine, Context};
use crate::config::KEYS;

#[derive(clap::Args)]
pub(super) struct Manual {
    /// Write every page into this directory instead of aptpeer(1) to standard output
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(super) struct Completions {
    /// Which shell they are for
    shell: Shell,
}

/// A command that others run in the background belongs into section 8 (man-pages(7)).
const DAEMONS: [&str; 2] = ["daemon", "bootstrap"];

/// How every command ends.
const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "Done."),
    ("1", "The work failed; a line on standard error says what, and what to do about it."),
    ("2", "The command line or the configuration is wrong; standard error names what, and what is allowed."),
];

/// What ends a daemon.
const SIGNALS: [(&str, &str); 1] = [(
    "SIGTERM, SIGINT",
    "Take nothing new, finish the answers under way, write down what is to be remembered, and end.",
)];

/// What the environment says beside the keys of the configuration.
const ENVIRONMENT: [(&str, &str); 3] = [
    (
        "APTPEER_*",
        "A key of the configuration each: APTPEER_PROXY_LISTEN is proxy.listen; lists are comma-separated.",
    ),
    ("NO_COLOR", "Where it is set to anything, nothing is coloured."),
    (
        "STATE_DIRECTORY, CACHE_DIRECTORY",
        "Where state and cache are unless the configuration says so; systemd sets them.",
    ),
];

/// The places of a package that was installed.
const FILES: [(&str, &str); 4] = [
    ("/etc/aptpeer/config.toml", "The configuration of the machine; see aptpeer.toml(5)."),
    ("~/.config/aptpeer/config.toml", "That of a user; what the machine's says wins."),
    ("/var/cache/aptpeer", "The files that are kept."),
    ("/var/lib/aptpeer", "What the daemon remembers, and in daemon.json where it listens."),
];

pub(super) fn completions(arguments: &Completions, context: &mut Context) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut CommandLine::command(), "aptpeer", &mut script);
    context.output.bytes(&script)
}

pub(super) fn man(arguments: &Manual, context: &mut Context) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Work(format!("cannot write the manual: {error}"));
    let pages = pages().map_err(|error| failed(&error))?;
    let Some(directory) = &arguments.output else {
        let first = pages.first().map_or(&[][..], |(_, page)| page);
        return context.output.bytes(first);
    };
    for (name, page) in &pages {
        write(&directory.join(name), page).map_err(|error| {
            let path = directory.join(name);
            failed(&format_args!("{}: {error}{}", path.display(), remedy(&error)))
        })?;
    }
    Ok(())
}

fn write(path: &Path, page: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, page)
}

/// Every page: its file's name and its text; aptpeer(1) comes first.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = CommandLine::command().disable_help_subcommand(true);
    all.build();
    let mut pages = Vec::new();
    add_pages(&all, "", &mut pages)?;
    pages.push(("aptpeer.toml.5".to_owned(), configuration()?));
    Ok(pages)
}

/// The page of a command, and then those of the commands below it. `path` is what one types behind `aptpeer`.
fn add_pages(command: &Command, path: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    pages.push(page(command, path)?);
    for below in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        add_pages(below, format!("{path} {}", below.get_name()).trim(), pages)?;
    }
    Ok(())
}

fn page(command: &Command, path: &str) -> io::Result<(String, Vec<u8>)> {
    let name = format!("aptpeer {path}").trim().replace(' ', "-");
    let section = if DAEMONS.contains(&path) { "8" } else { "1" };
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section(section)
        .source(source())
        .manual("aptpeer");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if let Some(more) = command.get_after_help() {
        let mut roff = Roff::new();
        roff.control("PP", []);
        roff.text([roman(more.to_string())]);
        roff.to_writer(&mut text)?;
    }
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        commands(command, path).to_writer(&mut text)?;
    }
    closing(path).to_writer(&mut text)?;
    Ok((format!("{name}.{section}"), text))
}

/// The commands below one, each by the name of its page.
fn commands(command: &Command, path: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for below in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let path = format!("{path} {}", below.get_name());
        let section = if DAEMONS.contains(&path.trim()) { "8" } else { "1" };
        roff.control("TP", []);
        roff.text([
            bold(format!("aptpeer {path}").split_whitespace().collect::<Vec<_>>().join("-")),
            roman(format!("({section})")),
        ]);
        roff.text([roman(below.get_about().map(ToString::to_string).unwrap_or_default())]);
    }
    roff
}

/// What follows the options: how the command ends, where things are, examples, and other pages.
fn closing(path: &str) -> Roff {
    let mut roff = Roff::new();
    let mut section = |title: &str, entries: &[(String, &str)]| {
        roff.control("SH", [title]);
        for (term, meaning) in entries {
            roff.control("TP", []);
            roff.text([bold(term.as_str())]);
            roff.text([roman(*meaning)]);
        }
    };
    let of = |entries: &[(&str, &'static str)]| -> Vec<(String, &'static str)> {
        entries.iter().map(|(term, meaning)| ((*term).to_owned(), *meaning)).collect()
    };
    if DAEMONS.contains(&path) {
        section("SIGNALS", &of(&SIGNALS));
    }
    section("EXIT STATUS", &of(&EXIT_STATUS));
    if path.is_empty() || DAEMONS.contains(&path) {
        section("ENVIRONMENT", &of(&ENVIRONMENT));
        section("FILES", &of(&FILES));
    }
    let examples = examples(path);
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        for line in examples {
            roff.control("PP", []);
            roff.control("EX", []);
            roff.text([roman(line)]);
            roff.control("EE", []);
        }
    }
    see_also(&mut roff);
    roff
}

/// A line that begins with a space would break the paragraph.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn see_also(roff: &mut Roff) {
    roff.control("SH", ["SEE ALSO"]);
    let pages = [
        ("aptpeer", "(1), "),
        ("aptpeer-daemon", "(8), "),
        ("aptpeer-config", "(1), "),
        ("aptpeer.toml", "(5)"),
    ];
    roff.text(pages.into_iter().flat_map(|(name, rest)| [bold(name), roman(rest)]).collect::<Vec<_>>());
}

/// aptpeer.toml(5): the keys, as `config init` has them.
fn configuration() -> io::Result<Vec<u8>> {
    let mut page = Roff::new();
    page.control("TH", ["APTPEER.TOML", "5", "", source().as_str(), "aptpeer"]);
    page.control("SH", ["NAME"]);
    page.text([roman("aptpeer.toml - configuration of aptpeer(1)")]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([italic("/etc/aptpeer/config.toml"), roman(", "), italic("~/.config/aptpeer/config.toml")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "TOML; every key may be left out. An option on the command line wins over the environment, that over the file that \
         --config names, that over /etc/aptpeer/config.toml, that over the one in the home directory. A key that does not exist is an error.",
    )]);
    page.control("PP", []);
    page.text([roman(
        "Sizes are \"4MB\", in powers of 1000, or \"4MiB\", in powers of 1024; rates \"10MB/s\"; times \"30s\", \"25m\" or \"1h30m\". In the \
         environment, the parts of a list are separated by commas.",
    )]);
    let mut section = "";
    for key in KEYS {
        if section != key.section {
            section = key.section;
            // Not in capitals, as other headings are: that is how the file has it.
            page.control("SH", [format!("[{section}]").as_str()]);
            page.text([roman(one_line(key.about))]);
        }
        page.control("TP", []);
        page.text([bold(key.name), roman(" = "), roman(key.default)]);
        page.text([roman(one_line(key.meaning))]);
        page.text([roman(format!("Allowed is {}. In the environment: {}.", key.allowed, key.variable()))]);
    }
    see_also(&mut page);
    Ok(page.render().into_bytes())
}

fn source() -> String {
    format!("aptpeer {}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_every_key_has_its_place_in_the_manual() {
        let pages = pages().unwrap();
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for expected in [
            "aptpeer.1",
            "aptpeer-get.1",
            "aptpeer-cache-pin.1",
            "aptpeer-daemon.8",
            "aptpeer-bootstrap.8",
            "aptpeer.toml.5",
        ] {
            assert!(names.contains(&expected), "{names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("detect")), "that one is for apt");
        // No page names one that is not there.
        for (_, text) in &pages {
            let text =
                String::from_utf8_lossy(text).replace("\\fB", "").replace("\\fR", "").replace("\\-", "-");
            for (at, _) in text.match_indices("aptpeer-") {
                let Some((name, rest)) = text[at..].split_once('(') else { continue };
                let Some((section, _)) = rest.split_once(')') else { continue };
                let file = format!("{name}.{section}");
                if !name.contains(char::is_whitespace) {
                    assert!(names.contains(&file.as_str()), "{file} of {names:?}");
                }
            }
        }
        let (_, keys) = pages.last().unwrap();
        let keys = String::from_utf8(keys.clone()).unwrap();
        for key in KEYS {
            assert!(keys.contains(&key.variable()), "{}", key.name);
        }
    }
}
