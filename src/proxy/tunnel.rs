//! `CONNECT`: a blind tunnel to a mirror's TLS port (RFC 9110 section 9.3.6).

use std::time::Duration;

use hyper::Response;
use tracing::debug;

use super::answer::{Origin, own, sign};
use super::{ProxySite, status_of};
use crate::http::{Body, Tunnel};

/// How long a tunnel may carry nothing in either direction.
const IDLE: Duration = Duration::from_secs(120);

impl ProxySite {
    /// Connects to `host` and lets the client speak to it.
    pub(super) async fn tunnel(&self, host: &str) -> Response<Body> {
        let mirror = match self.mirror.tunnel(host).await {
            Ok(mirror) => mirror,
            Err(error) => {
                debug!(host, %error, "no tunnel");
                return own(status_of(&error), format!("{host}: {error}"));
            }
        };
        let mut response = Response::new(Body::empty());
        Tunnel::attach(&mut response, move |client| async move {
            if let Err(error) = carry(client, mirror).await {
                debug!(%error, "a tunnel ended");
            }
        });
        sign(response, Origin::Own)
    }
}

/// Carries bytes both ways until both sides have ended, or nothing has moved for [`IDLE`].
async fn carry<A, B>(mut client: A, mut mirror: B) -> std::io::Result<()>
where
    A: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    B: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut from_client, mut from_mirror) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    let (mut client_open, mut mirror_open) = (true, true);
    while client_open || mirror_open {
        tokio::select! {
            read = client.read(&mut from_client), if client_open => match read? {
                0 => {
                    client_open = false;
                    mirror.shutdown().await?;
                }
                count => mirror.write_all(&from_client[..count]).await?,
            },
            read = mirror.read(&mut from_mirror), if mirror_open => match read? {
                0 => {
                    mirror_open = false;
                    client.shutdown().await?;
                }
                count => client.write_all(&from_mirror[..count]).await?,
            },
            () = tokio::time::sleep(IDLE) => return Ok(()),
        }
    }
    Ok(())
}
