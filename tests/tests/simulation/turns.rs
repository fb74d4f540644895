//! Futures without a runtime: each goes on by one step when it is told to, and is dropped to crash it.
//!
//! Never here: waiting. A future that waits for somebody else has to be woken by nobody: it is asked again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Something under way.
pub type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Goes on by one step; what came of it if it has ended.
pub fn go_on<T>(task: &mut Task<T>) -> Option<T> {
    match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(out) => Some(out),
        Poll::Pending => None,
    }
}

/// What cannot wait is over at once.
pub fn at_once<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(out) => out,
        Poll::Pending => panic!("something waits that never has to"),
    }
}

/// Gives others a turn.
#[derive(Default)]
pub struct Pause(bool);

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}
