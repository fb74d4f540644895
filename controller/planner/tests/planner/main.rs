//! The planner's tests, one binary: scripts with golden output, a ghost world with faults, and
//! garbage. `why` a thing is expected stands in the script that expects it.

mod agent;
mod builds;
mod carry;
mod catalog;
mod changes;
mod fixture;
mod foreign;
mod garbage;
mod guards;
mod histories;
mod racks;
mod requests;
mod script;
mod stories;
mod workflows;
mod world;
