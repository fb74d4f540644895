//! The controller as its users and agents meet it: over real TLS and HTTP, with a real database and
//! real repositories in a directory of its own, in this process. Only hosts are not made: a provider
//! that records what it is asked for hands out the join tokens that real hosts would get.

// measuring prints; so does looking at what the command line says (SHOW=1)
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod access;
mod agent;
mod attacked;
mod audit;
mod backup;
mod bad_input;
mod builds;
mod changes;
mod cli;
mod cli_again;
mod cli_reach;
mod commands;
mod commands_many;
mod configurations;
mod crowd;
mod database;
mod elsewhere;
mod etags;
mod filters;
mod fuzzed;
mod gone;
mod history;
mod hosts;
mod identity;
mod keystone;
mod keystone_server;
mod keystone_tls;
mod life;
mod limits;
mod logs;
mod neighbours;
mod once;
mod page;
mod people;
mod platform;
mod pool;
mod providers;
mod reports;
mod rig;
mod rollouts;
mod rotated;
mod secrets;
#[path = "../../repos/tests/suite/server.rs"]
mod server;
mod services;
mod settings;
mod sizes;
mod speed;
mod storage;
mod story;
mod streams;
#[path = "../../store/tests/support/temp_pg.rs"]
mod temp_pg;
mod two;
mod upstream;
mod users;
mod versions;
mod waves;
mod wire;
