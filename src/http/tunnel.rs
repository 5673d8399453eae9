//! An answer after which the connection is no longer HTTP: CONNECT (RFC 9110 §9.3.6) and `Upgrade`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Response;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(super) type Start = Box<dyn FnOnce(TokioIo<Upgraded>) -> Running + Send>;

/// What to do with the bare connection once the answer has been sent.
///
/// It runs in the connection's own task, within the server's limits on connections and its grace period; its own time
/// limits are its own business.
#[derive(Clone)]
pub struct Tunnel(Arc<Mutex<Option<Start>>>);

impl Tunnel {
    /// Lets `run` have the connection after `response`, which must be a 2xx to CONNECT or a 101.
    pub fn attach<B, F, R>(response: &mut Response<B>, run: F)
    where
        F: FnOnce(TokioIo<Upgraded>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let start: Start = Box::new(move |upgraded| Box::pin(run(upgraded)));
        response.extensions_mut().insert(Self(Arc::new(Mutex::new(Some(start)))));
    }

    pub(super) fn detach<B>(response: &mut Response<B>) -> Option<Start> {
        let tunnel = response.extensions_mut().remove::<Self>()?;
        tunnel.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tunnel")
    }
}
