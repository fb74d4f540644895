//! What an agent is given by whoever starts it: the way to controllers, and the time.
//!
//! A program has [`World::real`]. Whoever plays the world around an agent (`tests/tests/network`) has both of his own, so
//! that hours and cut links pass in seconds.
//!
//! Never here: TLS, which is the client's whatever the way is, and the life of certificates, which are judged by the
//! host's clock as TLS does it.

use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

/// Time to connect: a dead address must not use up the request's time.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone)]
pub struct World {
    /// The way to controllers.
    pub dialer: Dialer,
    /// The time.
    pub clock: Clock,
}

impl World {
    /// This host's network and clocks.
    #[must_use]
    pub fn real() -> Self {
        Self { dialer: Dialer::tcp(), clock: Clock::host() }
    }
}

/// The time as this host has it.
#[derive(Clone)]
pub struct Clock {
    /// Unix time in ms; may jump.
    pub unix_ms: Rc<dyn Fn() -> i64>,
    /// How long the host has been up, in ms; never goes back while it is.
    pub up_ms: Rc<dyn Fn() -> i64>,
}

impl Clock {
    /// The kernel's.
    #[must_use]
    pub fn host() -> Self {
        Self { unix_ms: Rc::new(crate::agent::unix_ms), up_ms: Rc::new(crate::vitals::up_ms) }
    }
}

/// What bytes go over to a controller.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection for Box<dyn Stream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// A connection under way.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Connects to the host and port of a URL.
#[derive(Clone)]
pub struct Dialer(Arc<dyn Fn(http::Uri) -> Dialing + Send + Sync>);

impl Dialer {
    /// With a way of one's own.
    pub fn new(dial: impl Fn(http::Uri) -> Dialing + Send + Sync + 'static) -> Self {
        Self(Arc::new(dial))
    }

    /// Over this host's network.
    #[must_use]
    pub fn tcp() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIME));
        // a cut link must be noticed even while a poll is held open
        tcp.set_keepalive(Some(Duration::from_secs(20)));
        tcp.set_keepalive_interval(Some(Duration::from_secs(5)));
        tcp.set_keepalive_retries(Some(3));
        tcp.set_tcp_user_timeout(Some(Duration::from_secs(20)));
        Self::new(move |uri| {
            let mut tcp = tcp.clone();
            Box::pin(async move {
                poll_fn(|cx| tcp.poll_ready(cx)).await.map_err(io::Error::other)?;
                let stream = tcp.call(uri).await.map_err(io::Error::other)?;
                Ok(Box::new(stream.into_inner()) as Box<dyn Stream>)
            })
        })
    }
}

impl Service<http::Uri> for Dialer {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let dialing = (self.0)(uri);
        Box::pin(async move { dialing.await.map(TokioIo::new) })
    }
}
