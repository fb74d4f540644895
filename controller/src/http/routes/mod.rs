//! Every route of the users' API, by what it is about.

mod authority;
mod configurations;
mod identity;
mod old;
mod platform;
mod pool;
mod storage;
mod topologies;
mod work;

use super::route::Route;
use schemars::JsonSchema;
use serde::Serialize;
use straas_schemas::job::Job;
use straas_schemas::view::DryRun;

/// Where version 1.0 is.
const V1: &str = "/straas/v1.0";

/// All of them, in the order of the document, each with what it is about.
pub fn all() -> Vec<(&'static str, Vec<Route>)> {
    vec![
        ("topologies", below(V1, topologies::routes())),
        ("work", below(V1, work::routes())),
        ("configurations", below(V1, configurations::routes())),
        ("storage", below(V1, storage::routes())),
        ("platform", below(V1, platform::routes())),
        ("pool", below(V1, pool::routes())),
        ("authority", below(V1, authority::routes())),
        ("identity", below(V1, identity::routes())),
        ("old", old::routes()),
    ]
}

fn below(top: &str, routes: Vec<Route>) -> Vec<Route> {
    routes.into_iter().map(|route| route.below(top)).collect()
}

/// What a mutation answers that makes no work: what it would do, or that all is as asked for.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema for the document; handlers answer with its parts")]
enum NoWork {
    /// With `dry_run`.
    Foreseen(DryRun),
    /// All is as asked for.
    Unchanged {
        /// Of what it was asked.
        id: String,
        /// There is none.
        job: Option<Job>,
    },
}

/// The jobs of a request about many components.
#[derive(Serialize, JsonSchema)]
struct Jobs {
    /// One for each component that changes.
    jobs: Vec<Job>,
}

/// A request that starts work: 202 with a job, 200 for what makes none.
trait Works {
    fn works(self) -> Route;
}

impl Works for Route {
    fn works(self) -> Route {
        self.query::<super::topologies::Mutation>().begins()
    }
}

trait Begins {
    fn begins(self) -> Route;
}

impl Begins for Route {
    fn begins(self) -> Route {
        self.answers::<straas_schemas::view::Accepted>(202, "The job that does it.")
            .answers::<NoWork>(200, "What it would do, or that nothing has to be done.")
    }
}
