//! The controller is going down: whoever waits for long hears of it here.

use tokio::sync::watch;

/// Hears when the controller is to stop.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

/// Says that the controller is to stop.
pub struct Stopper(watch::Sender<bool>);

/// A pair of the two.
pub fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Says so.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Whether the controller is to stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when the controller is to stop.
    pub async fn requested(&mut self) {
        // a stopper that is gone can only have been the controller's
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
