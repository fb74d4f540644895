//! A connection whose other end does not read ends: it would hold its place, its answer in memory and what sends it
//! for ever.
//!
//! The time runs only while there is something to send and not one byte of it is taken. So whoever reads, however
//! slowly, gets all of it, and a stream of events on which nothing happens stays open. What was not sent then is thrown
//! away with the connection (a reset): the kernel would keep offering it otherwise.

use super::Stream;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A connection that ends when nothing of what is to be sent is taken for so long.
pub struct Stalling<S> {
    stream: S,
    limit: Duration,
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S: Stream> Stalling<S> {
    /// Of a connection.
    pub const fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, waits: None }
    }

    /// What comes of a try to send, unless there was none that succeeded for too long.
    fn judged<T>(&mut self, cx: &mut Context<'_>, sent: Poll<Result<T>>) -> Poll<Result<T>> {
        if sent.is_ready() {
            self.waits = None;
            return sent;
        }
        let limit = self.limit;
        ready!(self.waits.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
        self.stream.abandon();
        let text = format!("the other end took nothing for {} s", limit.as_secs());
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, text)))
    }
}

impl<S: Stream> AsyncRead for Stalling<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: Stream> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judged(cx, sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.judged(cx, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // of TCP there is nothing to wait for in these two
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    /// More than the kernel keeps for a connection.
    const MUCH: usize = 32 << 20;
    const SHORT: Duration = Duration::from_millis(200);

    async fn pair(limit: Duration) -> (Stalling<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (near, far) =
            tokio::join!(TcpStream::connect(listener.local_addr().expect("an address")), listener.accept());
        (Stalling::new(near.expect("connected"), limit), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn who_does_not_read_is_cut_off() {
        let (mut near, mut far) = pair(SHORT).await;
        let error = near.write_all(&vec![7; MUCH]).await.expect_err("it ends");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(near);
        let end = far.read_to_end(&mut Vec::new()).await.expect_err("a reset");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn who_reads_slowly_gets_all() {
        let (mut near, mut far) = pair(Duration::from_secs(4)).await;
        let reader = tokio::spawn(async move {
            let (mut some, mut count) = (vec![0; 64 << 10], 0);
            loop {
                match far.read(&mut some).await.expect("read") {
                    0 => return count,
                    read => count += read,
                }
                // waits for: nothing; the pause is what such a reader does, and all of them are longer than the limit
                sleep(Duration::from_millis(10)).await;
            }
        });
        near.write_all(&vec![7; MUCH]).await.expect("all is taken");
        drop(near);
        assert_eq!(reader.await.expect("no panic"), MUCH);
    }

    #[tokio::test]
    async fn silence_is_no_stall() {
        let (mut near, mut far) = pair(SHORT).await;
        near.write_all(b"an event").await.expect("sent");
        // waits for: nothing; it is the silence that is tried
        sleep(SHORT * 3).await;
        near.write_all(b" and another").await.expect("it is open");
        drop(near);
        let mut all = String::new();
        far.read_to_string(&mut all).await.expect("read");
        assert_eq!(all, "an event and another");
    }
}
