//! TCP as turmoil plays it, in the shape that the programs take it in.

use async_trait::async_trait;
use std::io::{self, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use straas_agent::world::{Dialer, Stream as Dialed};
use straas_controller::{Listen, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// As an agent has it from the kernel.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A port of a controller.
pub struct Port(TcpListener);

impl Port {
    pub async fn bind(port: u16) -> Result<Self> {
        TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await.map(Self)
    }
}

#[async_trait]
impl Listen for Port {
    type Stream = Wire;

    async fn accept(&mut self) -> Result<(Wire, SocketAddr)> {
        self.0.accept().await.map(|(stream, from)| (Wire(stream), from))
    }
}

/// A connection.
pub struct Wire(TcpStream);

impl Stream for Wire {}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connects within the time that the kernel has for it.
pub async fn connect(host: String, port: u16) -> Result<TcpStream> {
    let connecting = tokio::time::timeout(CONNECT_TIME, TcpStream::connect((host, port)));
    connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The way of an agent to controllers.
pub fn dialer() -> Dialer {
    Dialer::new(|uri| {
        let (host, port) = (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or_default());
        Box::pin(async move { Ok(Box::new(connect(host, port).await?) as Box<dyn Dialed>) })
    })
}
