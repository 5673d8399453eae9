//! Whether the user pays for each byte, as NetworkManager says.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// How long an answer may take. It takes some 10 ms.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to ask, as the D-Bus API of NetworkManager names it.
const PROPERTY: [&str; 6] = [
    "--system",
    "get-property",
    "org.freedesktop.NetworkManager",
    "/org/freedesktop/NetworkManager",
    "org.freedesktop.NetworkManager",
    "Metered",
];

/// Whether the network is metered now, or probably is. Where nobody knows it is not.
pub(super) async fn is_metered() -> bool {
    let mut command = Command::new("busctl");
    command.args(PROPERTY).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => says_metered(&output.stdout),
        _ => false,
    }
}

/// Reads `u 4`: a value of `NMMetered`, of which 1 is "yes" and 3 "guessed yes".
fn says_metered(answer: &[u8]) -> bool {
    let value = std::str::from_utf8(answer).ok().and_then(|text| text.trim().strip_prefix("u "));
    matches!(value, Some("1" | "3"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_and_probably_yes_are_metered() {
        for (answer, metered) in [
            ("u 0\n", false),
            ("u 1\n", true),
            ("u 2\n", false),
            ("u 3\n", true),
            ("u 4\n", false),
            ("", false),
            ("s 1", false),
        ] {
            assert_eq!(says_metered(answer.as_bytes()), metered, "{answer:?}");
        }
    }
}
