//! What the user typed → what the program uses.
//!
//! [`KEYS`] is the one list of every key: its name, default, kind, meaning and what is allowed. The structs in
//! [`Settings`], the file of `config init`, `config show`, the environment names and every error text come from it.
//! [`load`] gathers values from flags, environment and files, and answers with [`Loaded`] or with every problem at once.

mod choices;
mod files;
mod keys;
mod load;
mod places;
mod problem;
mod show;
mod table;
mod units;
mod values;

pub use choices::{Announcing, LogFormat, LogLevel, Prefer, Prefetch, Signatures, UpstreamProxy};
pub use keys::{
    Cache, Dht, KEYS, Lan, Log, Mirrors, Network, Privacy, Proxy, Settings, State, Status, Swarm, Transfer,
};
pub use load::{Loaded, load};
pub use places::{Surroundings, Typed};
pub use problem::{ConfigError, Origin, Problem, Warning};
pub use show::sample_file;
pub use table::{Effect, Key};
pub use units::{PacketRate, Rate, Size, Span};
pub use values::{HostPattern, HostPort, InterfaceName, PublicKey, Whole};
