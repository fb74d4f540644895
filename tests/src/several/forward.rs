//! A port of this machine that leads into the network of a test: how its user reaches what only hosts can.
//!
//! A thread that lives in that network connects from there for whoever connects here. What cannot be reached ends the
//! connection, as a server that is not there does.

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::thread::JoinHandle;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// See the module; it ends when it is dropped.
pub struct Forward {
    /// The port of this machine.
    pub port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Forward {
    /// Leads to an address in a network namespace.
    ///
    /// # Errors
    /// There is no such namespace.
    pub fn to(namespace: &str, target: SocketAddr) -> Result<Self> {
        let path = Path::new("/run/netns").join(namespace);
        let namespace = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        // it stays where it was made
        let listener = StdListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            // every socket that is made from here on is made there
            if setns(namespace, CloneFlags::CLONE_NEWNET).is_ok() {
                runtime.block_on(async {
                    tokio::select! {
                        _ = carry(listener, target) => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Ok(Self { port, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn carry(listener: StdListener, target: SocketAddr) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (mut near, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut far = TcpStream::connect(target).await?;
            copy_bidirectional(&mut near, &mut far).await
        });
    }
}
