//! The planner's tests, one binary: scripts with golden output, a ghost world with faults, and
//! garbage. `why` a thing is expected stands in the script that expects it.

mod agent;
mod fixture;
mod garbage;
mod histories;
mod script;
mod stories;
mod workflows;
mod world;
