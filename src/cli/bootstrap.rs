//! `aptpeer bootstrap`: a node that does nothing but take part in the DHT, until SIGTERM or Ctrl-C.

use tokio_util::sync::CancellationToken;

use super::daemon::until_signal;
use super::output::{Failure, warn_of};
use super::{Context, logging};
use crate::daemon::BootstrapNode;

const MORE: &str = "It says how it is on the status port, `curl http://127.0.0.1:9978/stats`, and keeps its id and \
                    the nodes it knows in state.path, which must not be that of a daemon. A network of one's own \
                    begins with a node whose dht.bootstrap is empty; in one of private addresses, set \
                    network.allow_private_peers.";

#[derive(clap::Args)]
#[command(after_help = MORE)]
pub(super) struct Arguments {
    /// Where other nodes reach it, by UDP: IP addresses with ports, separated by commas; the first of each family
    /// counts [default: network.listen of the configuration]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
}

pub(super) fn run(arguments: Arguments, context: &mut Context) -> Result<(), Failure> {
    let listen = arguments.listen.map(|listen| ("network.listen", "--listen", listen));
    context.typed.flags.extend(listen);
    let loaded = context.load()?;
    logging::start(&loaded.settings.log);
    warn_of(&loaded.warnings);
    let work = |error: &dyn std::fmt::Display| Failure::Work(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Work(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let node = BootstrapNode::new(loaded.settings).map_err(|error| work(&error))?;
        let ended = until_signal(shutdown.clone(), node.run(shutdown)).await?;
        ended.map_err(|error| work(&error))
    })
}
