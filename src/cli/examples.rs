//! The examples of each command, as its help and its manual page show them.

use clap::Command;

/// What follows `aptpeer ` and says which command it is, with what follows the examples' own `aptpeer `. What is behind a
/// `|` or a `>` is the shell's.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("daemon", &["daemon", "--config ./aptpeer.toml --log-level debug daemon"]),
    (
        "bootstrap",
        &["bootstrap --listen 0.0.0.0:9979", "bootstrap --listen '192.0.2.7:9979,[2001:db8::7]:9979'"],
    ),
    (
        "get",
        &[
            "get http://mirror.example.org/debian/pool/main/h/hello/hello_2.10-3_amd64.deb",
            "get 4b3cb1c5c0bf4a5ff0b7a4b3d5c0c2f1a4a4a2f4f2d7e6a5d1c3b2a190f8e7d6 -o hello.deb",
            "get http://mirror.example.org/debian/pool/main/h/hello/hello_2.10-3_amd64.deb --peer 192.168.1.7:9979",
        ],
    ),
    ("status", &["status", "status --watch", "status --json | jq .bytes_from_p2p"]),
    ("peers", &["peers", "peers --json | jq '.peers[].address'"]),
    ("cache", &["cache stats", "cache list | tail", "cache verify"]),
    ("cache list", &["cache list", "cache list --json | jq '.[].sha256'"]),
    ("cache stats", &["cache stats", "cache stats --json"]),
    ("cache verify", &["cache verify"]),
    ("cache clear", &["cache clear"]),
    ("cache pin", &["cache pin 4b3cb1c5c0bf4a5ff0b7a4b3d5c0c2f1a4a4a2f4f2d7e6a5d1c3b2a190f8e7d6"]),
    ("cache unpin", &["cache unpin 4b3cb1c5c0bf4a5ff0b7a4b3d5c0c2f1a4a4a2f4f2d7e6a5d1c3b2a190f8e7d6"]),
    (
        "cache export",
        &["cache export 4b3cb1c5c0bf4a5ff0b7a4b3d5c0c2f1a4a4a2f4f2d7e6a5d1c3b2a190f8e7d6 -o hello.deb"],
    ),
    ("seed", &["seed import --apt-archives", "seed list"]),
    (
        "seed import",
        &[
            "seed import --apt-archives",
            "seed import --in-place -r /srv/mirror/debian/pool",
            "seed import --no-announce ours_1.0_amd64.deb",
        ],
    ),
    ("seed list", &["seed list", "seed list --json"]),
    ("seed remove", &["seed remove /srv/mirror/debian/pool"]),
    ("keygen", &["keygen publisher.key"]),
    ("publish", &["publish --key publisher.key -r /srv/mirror/debian/pool"]),
    ("swarm", &["swarm create /etc/aptpeer/swarm.secret"]),
    ("swarm create", &["swarm create /etc/aptpeer/swarm.secret"]),
    ("config", &["config init -o /etc/aptpeer/config.toml", "config check"]),
    ("config show", &["config show", "config show --json | jq .origins"]),
    ("config init", &["config init", "config init -o /etc/aptpeer/config.toml"]),
    ("config check", &["config check", "config check --config ./aptpeer.toml"]),
    ("doctor", &["doctor", "doctor --json"]),
    ("completions", &["completions bash > ~/.local/share/bash-completion/completions/aptpeer"]),
    ("man", &["man | man -l -", "man -o ~/.local/share/man"]),
    ("version", &["version", "version --json"]),
];

/// The examples of the command of this path, such as `cache pin`, each as one would type it.
pub(super) fn examples(path: &str) -> Vec<String> {
    let found = EXAMPLES.iter().filter(|(command, _)| *command == path);
    found.flat_map(|(_, lines)| lines.iter().map(|line| format!("aptpeer {line}"))).collect()
}

/// The command line, with the examples under the help of each command.
pub(super) fn with_examples(mut command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(&name, |command| below(command, &name));
    }
    command
}

fn below(mut command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(&name, |command| below(command, &format!("{path} {name}")));
    }
    let lines: Vec<String> = examples(path).iter().map(|line| format!("\n  {line}")).collect();
    if lines.is_empty() {
        return command;
    }
    let more = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    command.after_help(format!("{more}Examples:{}", lines.concat()))
}

#[cfg(test)]
mod tests {
    use super::super::Arguments;
    use super::*;
    use clap::CommandFactory as _;

    /// The words of an example, as a shell would cut it.
    fn words(line: &str) -> Vec<String> {
        let ours = line.split(['|', '>']).next().unwrap();
        ours.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()
    }

    fn paths(command: &Command, path: &str, found: &mut Vec<String>) {
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let path = format!("{path} {}", command.get_name()).trim().to_owned();
            paths(command, &path, found);
            found.push(path);
        }
    }

    #[test]
    fn every_command_has_examples_and_no_others_are_there() {
        let mut commands = Vec::new();
        let mut told: Vec<&str> = EXAMPLES.iter().map(|(path, _)| *path).collect();
        paths(&Arguments::command(), "", &mut commands);
        commands.sort();
        told.sort();
        assert_eq!(told, commands);
    }

    #[test]
    fn every_example_is_a_command_line_of_its_command() {
        for (path, lines) in EXAMPLES {
            assert!(!lines.is_empty(), "{path}");
            for line in *lines {
                let parsed = Arguments::command().try_get_matches_from(words(&format!("aptpeer {line}")));
                let mut matches = &parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
                let mut called = Vec::new();
                while let Some((name, inner)) = matches.subcommand() {
                    called.push(name);
                    matches = inner;
                }
                assert!(called.join(" ").starts_with(path), "{line} is an example of {path}");
            }
        }
    }

    #[test]
    fn the_help_of_a_command_ends_with_its_examples() {
        let mut command = with_examples(Arguments::command());
        command.build();
        let pin = command.find_subcommand_mut("cache").unwrap().find_subcommand_mut("pin").unwrap();
        let help = pin.render_long_help().to_string();
        assert!(help.contains("Examples:\n  aptpeer cache pin 4b3c"), "{help}");
        let bootstrap = command.find_subcommand_mut("bootstrap").unwrap().render_help().to_string();
        let (more, examples) = (bootstrap.find("status port"), bootstrap.find("Examples:"));
        assert!(more.is_some() && more < examples, "{bootstrap}");
    }
}
