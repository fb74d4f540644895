//! The whole product on this machine: real controller, agents, packages, Puppet, ZooKeeper.
//!
//! Needs root, because hosts are made of namespaces; without it each test says SKIPPED and why.
//! One file per subject, one test per story; they take turns.

#![allow(clippy::unwrap_used)]

mod agents;
mod batches;
mod commands;
mod component_test;
mod delivered;
mod drift;
mod ensemble;
mod failover;
mod failures;
mod failures_table;
mod failures_waves;
mod faults_clock;
mod faults_disk;
mod faults_ledger;
mod faults_link;
mod faults_rig;
mod faults_room;
mod faults_scripts;
mod footprint;
mod foreign;
mod interrupted;
mod kafka_life;
mod killed;
mod killed_stories;
mod mistakes;
mod neighbours;
mod packages;
mod pool;
mod restored;
mod rotated;
mod secrets;
mod several;
mod several_rig;
mod steered;
mod storm_life;
mod stormjar;
mod synced;
mod zones;
mod zookeeper_life;
