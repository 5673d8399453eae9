//! `aptpeer man` and `aptpeer completions`: written from the one definition of each command, option and key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use roff::{Roff, bold, italic, roman};

use super::output::Failure;
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
            failed(&format_args!("{}: {error}", path.display()))
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
    let mut pages = vec![page(all.clone(), "aptpeer", "1")?];
    for command in all.get_subcommands().filter(|command| !command.is_hide_set()) {
        let section = if DAEMONS.contains(&command.get_name()) { "8" } else { "1" };
        pages.push(page(command.clone(), &format!("aptpeer-{}", command.get_name()), section)?);
    }
    pages.push(("aptpeer.toml.5".to_owned(), configuration()?));
    Ok(pages)
}

fn page(command: Command, name: &str, section: &str) -> io::Result<(String, Vec<u8>)> {
    let mut text = Vec::new();
    Man::new(command)
        .title(name.to_uppercase())
        .section(section)
        .source(source())
        .manual("aptpeer")
        .render(&mut text)?;
    Ok((format!("{name}.{section}"), text))
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
    let mut section = "";
    for key in KEYS {
        if section != key.section {
            section = key.section;
            page.control("SH", [format!("[{section}]").to_uppercase().as_str()]);
            page.text([roman(key.about.trim())]);
        }
        page.control("TP", []);
        page.text([bold(key.name), roman(" = "), roman(key.default)]);
        page.text([roman(key.meaning.trim())]);
        page.text([roman(format!("Allowed is {}. In the environment: {}.", key.allowed, key.variable()))]);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("aptpeer"),
        roman("(1), "),
        bold("aptpeer-daemon"),
        roman("(8), "),
        bold("aptpeer-config"),
        roman("(1)"),
    ]);
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
        for expected in
            ["aptpeer.1", "aptpeer-get.1", "aptpeer-daemon.8", "aptpeer-bootstrap.8", "aptpeer.toml.5"]
        {
            assert!(names.contains(&expected), "{names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("detect")), "that one is for apt");
        let (_, keys) = pages.last().unwrap();
        let keys = String::from_utf8(keys.clone()).unwrap();
        for key in KEYS {
            assert!(keys.contains(&key.variable()), "{}", key.name);
        }
    }
}
