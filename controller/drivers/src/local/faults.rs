//! Faults of local hosts: power and link.
//!
//! A cut is kept in the host's record, so it holds across a reboot and across controllers. A delay
//! is a helper process and ends with the host's power: a machine that is switched off has no
//! frames under way.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::HostError;
use crate::helper::DelayTask;
use crate::hosts::{Delay, Faults, HostStatus, check_id};
use crate::local::fabric::{BRIDGE, Fabric};
use crate::local::registry::Known;
use crate::local::{LocalHosts, blocking, micro, process};

/// Longest delay: beyond it every timeout of every protocol has fired anyway.
const DELAY_MS_MAX: u32 = 60_000;

#[async_trait]
impl Faults for LocalHosts {
    async fn crash(&self, id: &str) -> Result<(), HostError> {
        self.known(id)?;
        let gate = self.inner.registry.gate(id);
        let _held = gate.lock().await;
        let (known, inner) = (self.known(id)?, Arc::clone(&self.inner));
        blocking(move || {
            let number = inner.registry.number(&known.record)?;
            inner.registry.power_off(&known.dir, Some(number), inner.fabric.as_ref())
        })
        .await
    }

    async fn boot(&self, id: &str) -> Result<HostStatus, HostError> {
        self.known(id)?;
        let gate = self.inner.registry.gate(id);
        let _held = gate.lock().await;
        let known = self.known(id)?;
        self.boot_held(known).await
    }

    async fn cut(&self, id: &str) -> Result<(), HostError> {
        self.set_cut(id, true).await
    }

    async fn heal(&self, id: &str) -> Result<(), HostError> {
        self.set_cut(id, false).await
    }

    async fn delay(&self, id: &str, delay: Delay) -> Result<(), HostError> {
        if delay.ms > DELAY_MS_MAX || !(0.0..=100.0).contains(&delay.loss_percent) {
            return Err(HostError::Invalid {
                field: "delay",
                reason: format!(
                    "{} ms and {} % are not within {DELAY_MS_MAX} ms and 100 %",
                    delay.ms, delay.loss_percent
                ),
            });
        }
        let fabric = self.links()?;
        self.known(id)?;
        let gate = self.inner.registry.gate(id);
        let _held = gate.lock().await;
        let known = self.known(id)?;
        if known.running().is_none() {
            return Err(HostError::Down(id.to_owned()));
        }
        let number = self.inner.registry.number(&known.record)?;
        let (dir, cleaner) = (known.dir.clone(), fabric.clone());
        blocking(move || micro::end_delay(&dir, number, &cleaner)).await?;
        let task = DelayTask {
            netns: fabric.path(),
            bridge: BRIDGE.into(),
            port: Fabric::port(number),
            number,
            delay,
            record: known.dir.at("delay.json"),
        };
        let started = self.inner.helper.start("delay", &task, &known.dir.at("init.log")).await;
        if started.is_err() {
            blocking(move || micro::end_delay(&known.dir, number, &fabric)).await?;
        }
        started
    }

    async fn undelay(&self, id: &str) -> Result<(), HostError> {
        let fabric = self.links()?;
        self.known(id)?;
        let gate = self.inner.registry.gate(id);
        let _held = gate.lock().await;
        let known = self.known(id)?;
        let number = self.inner.registry.number(&known.record)?;
        blocking(move || micro::end_delay(&known.dir, number, &fabric)).await
    }
}

impl LocalHosts {
    fn known(&self, id: &str) -> Result<Known, HostError> {
        check_id(id)?;
        self.inner.registry.get(id)?.ok_or_else(|| HostError::NotFound(id.to_owned()))
    }

    fn links(&self) -> Result<Fabric, HostError> {
        let none = || HostError::Unsupported(format!("process mode has no links of its own: {}", process::NOTE));
        self.inner.fabric.clone().ok_or_else(none)
    }

    /// The record first: a controller that dies in between finds the wish and the next boot obeys.
    async fn set_cut(&self, id: &str, cut: bool) -> Result<(), HostError> {
        let fabric = self.links()?;
        self.known(id)?;
        let gate = self.inner.registry.gate(id);
        let _held = gate.lock().await;
        let mut known = self.known(id)?;
        let number = self.inner.registry.number(&known.record)?;
        blocking(move || {
            known.record.cut = cut;
            known.dir.write_record(&known.record)?;
            fabric.set_port(number, !cut)
        })
        .await
    }
}
