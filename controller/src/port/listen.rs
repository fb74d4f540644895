//! Where connections come in from: TCP, or whatever else somebody listens on for a controller.
//!
//! Never here: what is said on a connection.

use async_trait::async_trait;
use std::io::Result;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A place where connections come in.
#[async_trait]
pub trait Listen: Send + 'static {
    /// What comes in.
    type Stream: Stream;

    /// The next connection, and where it comes from. May be broken off.
    async fn accept(&mut self) -> Result<(Self::Stream, SocketAddr)>;
}

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Has what is sent go at once.
    fn prepare(&self) {}

    /// Has what was not sent thrown away when it ends.
    fn abandon(&self) {}
}

#[async_trait]
impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }
}

impl Stream for TcpStream {
    // without them it works, more slowly
    fn prepare(&self) {
        let _ = self.set_nodelay(true);
    }

    fn abandon(&self) {
        let _ = self.set_zero_linger();
    }
}
