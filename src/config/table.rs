//! The macro that turns the list of keys into typed structs and into [`Key`] rows, so that the two cannot differ.

/// One key of the configuration, as `config init`, `config show`, the error texts and the manual describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The section's name, such as `proxy`.
    pub section: &'static str,
    /// What the section is about, in full sentences.
    pub about: &'static str,
    /// The full name, such as `proxy.listen`.
    pub name: &'static str,
    /// The default, written as TOML.
    pub default: &'static str,
    /// What the key does, in full sentences; a line break between lines.
    pub meaning: &'static str,
    /// What a value may be; completes the sentence "allowed is …".
    pub allowed: &'static str,
    /// Whether this version acts on it.
    pub effect: Effect,
}

/// Whether this version acts on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does what its meaning says.
    Now,
    /// The feature comes in a later version. The default and, where there is one, the value that turns the feature off
    /// are true today; any other value earns a warning.
    Later {
        /// The value that turns the feature off, written as TOML.
        off: Option<&'static str>,
    },
}

impl Key {
    /// The part of the name after the section.
    pub fn leaf(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }

    /// The environment variable that sets the key, such as `APTPEER_PROXY_LISTEN`.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('.', "_").to_uppercase())
    }
}

/// What the name of every environment variable of ours begins with.
pub(super) const VARIABLE_PREFIX: &str = "APTPEER_";

/// Defines the section structs, `Settings` and `KEYS` from one list. A line reads
/// `key: Kind = default;`, or `key: Kind = default, later off VALUE;` where the feature comes in a later version.
macro_rules! settings {
    ($(
        $(#[doc = $about:literal])+
        $section:ident: $Section:ident {
            $(
                $(#[doc = $meaning:literal])+
                $key:ident: $Kind:ty = $default:tt $(, $later:ident $(off $off:tt)?)?;
            )+
        }
    )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $Section {
                $( $(#[doc = $meaning])+ pub $key: $Kind, )+
            }

            impl $Section {
                const ABOUT: &str = concat!($( $about, "\n" ),+);

                fn read(reader: &mut Reader) -> Option<Self> {
                    $( let $key = reader.value(concat!(stringify!($section), ".", stringify!($key))); )+
                    Some(Self { $( $key: $key? ),+ })
                }
            }
        )+

        /// What the program uses: every key parsed, every place resolved.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            $( $(#[doc = $about])+ pub $section: $Section, )+
        }

        impl Settings {
            /// Reads every key, also after a first problem; `None` when the reader has noted any.
            pub(super) fn read(reader: &mut Reader) -> Option<Self> {
                $( let $section = $Section::read(reader); )+
                Some(Self { $( $section: $section? ),+ })
            }

            /// Every value as TOML, in the order of [`KEYS`].
            pub(super) fn to_toml(&self) -> Vec<toml::Value> {
                vec![ $( $( self.$section.$key.to_toml() ),+ ),+ ]
            }
        }

        /// Every key there is, in the order of the sample file.
        pub const KEYS: &[Key] = &[ $( $( Key {
            section: stringify!($section),
            about: $Section::ABOUT,
            name: concat!(stringify!($section), ".", stringify!($key)),
            default: stringify!($default),
            meaning: concat!($( $meaning, "\n" ),+),
            allowed: <$Kind as Setting>::ALLOWED,
            effect: effect!($( $later $( $off )? )?),
        } ),+ ),+ ];
    };
}

macro_rules! effect {
    () => {
        Effect::Now
    };
    (later) => {
        Effect::Later { off: None }
    };
    (later $off:tt) => {
        Effect::Later { off: Some(stringify!($off)) }
    };
}

pub(super) use {effect, settings};
