//! Keys whose value is one of a few words.

use super::values::{Refused, Setting};
use std::fmt;
use toml::Value;

macro_rules! choice {
    ($(#[$doc:meta])+ $Name:ident, $allowed:literal { $( $(#[$vdoc:meta])+ $Variant:ident = $word:literal ),+ $(,)? }) => {
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Name { $( $(#[$vdoc])+ $Variant ),+ }

        impl $Name {
            /// Every choice, in the order of the error texts.
            pub const ALL: &[Self] = &[ $( Self::$Variant ),+ ];

            /// The word that the configuration has for it.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$Variant => $word ),+ }
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Setting for $Name {
            const ALLOWED: &'static str = $allowed;

            fn from_text(text: &str) -> Result<Self, Refused> {
                match text.trim() {
                    $( $word => Ok(Self::$Variant), )+
                    _ => Err(Refused(format!("{text:?}"))),
                }
            }

            fn to_toml(&self) -> Value {
                Value::String(self.as_str().to_owned())
            }
        }
    };
}

choice! {
    /// What signatures of indexes decide.
    Signatures, "\"auto\", \"enforce\" or \"off\"" {
        /// A bad signature teaches nothing; one that cannot be checked does no harm.
        Auto = "auto",
        /// Only a good signature teaches.
        Enforce = "enforce",
        /// Signatures are not looked at.
        Off = "off",
    }
}

choice! {
    /// What a download is to be good at.
    Prefer, "\"speed\" or \"offload\"" {
        /// Race the mirror.
        Speed = "speed",
        /// Wait a little for peers, to spare the mirror.
        Offload = "offload",
    }
}

choice! {
    /// What is done ahead for the upgrades that apt will ask for.
    Prefetch, "\"off\", \"sources\" or \"data\"" {
        /// Nothing.
        Off = "off",
        /// Peers that have them are looked for.
        Sources = "sources",
        /// They are fetched, too, while the machine is idle.
        Data = "data",
    }
}

choice! {
    /// The least important events that are still logged.
    LogLevel, "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"" {
        /// We are stopping.
        Error = "error",
        /// Worth waking somebody for.
        Warn = "warn",
        /// A nod.
        Info = "info",
        /// Decisions.
        Debug = "debug",
        /// Packets.
        Trace = "trace",
    }
}

choice! {
    /// How an event is written.
    LogFormat, "\"text\" or \"json\"" {
        /// A line for people.
        Text = "text",
        /// A JSON document a line.
        Json = "json",
    }
}

/// Whether held files are announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcing {
    /// Where others can reach this node, or nobody knows whether they can.
    Reachable,
    /// In any case.
    Always,
    /// Never.
    Never,
}

impl Setting for Announcing {
    const ALLOWED: &'static str = "true, false or \"always\"";

    fn from_text(text: &str) -> Result<Self, Refused> {
        match text.trim() {
            "always" => Ok(Self::Always),
            other => bool::from_text(other).map(|yes| if yes { Self::Reachable } else { Self::Never }),
        }
    }

    fn from_toml(value: &Value) -> Result<Self, Refused> {
        match value {
            Value::Boolean(true) => Ok(Self::Reachable),
            Value::Boolean(false) => Ok(Self::Never),
            Value::String(text) if text == "always" => Ok(Self::Always),
            other => Err(Refused(other.to_string())),
        }
    }

    fn to_toml(&self) -> Value {
        match self {
            Self::Reachable => Value::Boolean(true),
            Self::Always => Value::String("always".to_owned()),
            Self::Never => Value::Boolean(false),
        }
    }
}

/// The proxy between this machine and the mirrors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamProxy {
    /// What the environment, else apt's own configuration, says.
    Auto,
    /// None: mirrors are connected to directly.
    None,
    /// This one: an absolute http or https URL.
    Url(String),
}

impl Setting for UpstreamProxy {
    const ALLOWED: &'static str = "\"auto\", \"none\" or a URL such as \"http://proxy.example.org:3128\"";

    fn from_text(text: &str) -> Result<Self, Refused> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            url if is_proxy_url(url) => Ok(Self::Url(url.to_owned())),
            _ => Err(Refused(format!("{text:?}"))),
        }
    }

    fn to_toml(&self) -> Value {
        let text = match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::Url(url) => url,
        };
        Value::String(text.to_owned())
    }
}

fn is_proxy_url(text: &str) -> bool {
    crate::mirror::Target::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for level in LogLevel::ALL {
            assert_eq!(LogLevel::from_toml(&level.to_toml()), Ok(*level));
            assert!(LogLevel::ALLOWED.contains(level.as_str()));
        }
        assert_eq!(LogLevel::from_text("INFO"), Err(Refused("\"INFO\"".to_owned())));
    }

    #[test]
    fn an_upstream_proxy_is_a_word_or_a_url() {
        assert_eq!(UpstreamProxy::from_text("auto"), Ok(UpstreamProxy::Auto));
        assert_eq!(UpstreamProxy::from_text("none"), Ok(UpstreamProxy::None));
        let url = "http://proxy.example.org:3128";
        assert_eq!(UpstreamProxy::from_text(url), Ok(UpstreamProxy::Url(url.to_owned())));
        for text in ["", "proxy.example.org:3128", "socks5://proxy.example.org", "http://"] {
            assert!(UpstreamProxy::from_text(text).is_err(), "{text:?} was accepted");
        }
    }
}
