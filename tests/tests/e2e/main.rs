//! The whole product on this machine: real controller, agents, packages, Puppet, ZooKeeper.
//!
//! Needs root, because hosts are made of namespaces; without it each test says SKIPPED and why.
//! One file per subject, one test per story; they take turns.

#![allow(clippy::unwrap_used)]

mod commands;
mod ensemble;
mod footprint;
mod interrupted;
mod kafka_life;
mod mistakes;
mod storm_life;
mod zookeeper_life;
