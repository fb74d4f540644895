//! Looks at the service: when the next one is due, and what a wish for one changes.
//!
//! A settled service is looked at regularly. The controller may wish for a look before that, because
//! something happened elsewhere that may show here: a neighbour restarted, and another one leads now.
//! A wish changes when the next look begins and nothing else. It is not durable: lost with the agent,
//! it costs the time to the next regular look. Wishes that come faster than looks make one look.
//!
//! Never here: what a look finds (`finish.rs`).

use crate::action::{Now, Task};
use crate::backoff;
use crate::converger::{Converger, Work};
use straas_schemas::Stage;
use straas_schemas::assignment::Timing;

/// Shortest time from the end of a look to one that was wished for, however often it is: a look
/// starts a process, and what is looked at works for others meanwhile.
const WISHED_PAUSE_MS: i64 = 500;

/// What is known of looks since the agent started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looks {
    /// When the last one ended.
    pub ended_at: Option<i64>,
    /// Somebody waits for the next one.
    wished: bool,
    /// One was wished for while another was under way, which may have seen what was before.
    again: bool,
    /// Wishes that came true.
    pub granted: u32,
}

impl Converger {
    /// Takes a wish for a look.
    pub(crate) fn look_wished(&mut self, now: Now) {
        self.looks.wished = true;
        if matches!(&self.work, Work::Running(run) if run.order.task == Task::Stage(Stage::Validate)) {
            self.looks.again = true;
        } else {
            self.look_soon(now);
        }
    }

    /// The next look is due as soon as one that is wished for may be.
    fn look_soon(&mut self, now: Now) {
        let at = self.looks.ended_at.map_or(now.mono_ms, |ended| now.mono_ms.max(ended + WISHED_PAUSE_MS));
        self.monitor_at = self.monitor_at.min(at);
        // one that said "not yet" is asked again; one that failed is left to its back-off
        if self.waits.has(Stage::Validate)
            && let Some((_, due)) = self.due.get_mut(&Stage::Validate)
        {
            *due = (*due).min(at);
        }
    }

    /// A look ended, its own next one is already known.
    pub(crate) fn looked(&mut self, now: Now, timing: &Timing) {
        self.monitor_at = now.mono_ms + backoff::validate_every_ms(timing);
        self.looks.ended_at = Some(now.mono_ms);
        if std::mem::take(&mut self.looks.again) {
            self.look_soon(now);
        } else if std::mem::take(&mut self.looks.wished) {
            self.looks.granted = self.looks.granted.wrapping_add(1);
        }
    }
}
