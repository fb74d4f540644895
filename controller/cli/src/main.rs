//! `straas`: the command line. It asks the API and shows the answers; it computes nothing itself.
//!
//! Results go to stdout in the form that `-o` names, everything else to stderr. Errors say what to
//! do next and end with an exit code that a script can tell apart (`error.rs`).

mod again;
mod audit;
mod ca;
mod client;
mod cms;
mod command;
mod component;
mod config;
mod content;
mod context;
mod dev;
#[cfg(test)]
mod documented;
mod error;
mod etag;
mod find;
mod guestcmd;
mod job;
mod mutation;
mod node;
mod output;
mod people;
mod pool;
mod quarantine;
mod rollout;
mod routes;
mod script;
mod sse;
mod storage;
mod topology;
mod whom;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use error::CliError;
use output::Format;
use std::path::PathBuf;
use std::process::ExitCode;

/// Stateful clusters as a service.
#[derive(Parser)]
#[command(name = "straas", version, about)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    noun: Noun,
}

/// Heading of the options that every command has.
const ALWAYS: &str = "Options of every command";

/// Where the controller is and how to show its answers.
#[derive(Args, Clone)]
pub struct Global {
    /// URL of the controller.
    #[arg(long, global = true, env = "STRAAS_ENDPOINT", hide_env_values = true, value_name = "URL", help_heading = ALWAYS)]
    endpoint: Option<String>,
    /// File with the token to send.
    #[arg(long, global = true, env = "STRAAS_TOKEN_FILE", hide_env_values = true, value_name = "FILE", help_heading = ALWAYS)]
    token_file: Option<PathBuf>,
    /// How to print results: table, json or yaml.
    #[arg(short, long, global = true, value_enum, default_value = "table", hide_possible_values = true)]
    #[arg(value_name = "FORM", help_heading = ALWAYS)]
    output: Format,
    /// The same as -o json.
    #[arg(long, global = true, conflicts_with = "output", help_heading = ALWAYS)]
    json: bool,
}

impl Global {
    /// How to print results.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

#[derive(Subcommand)]
enum Noun {
    /// A whole StraaS on this machine, to try and to develop.
    #[command(subcommand)]
    Dev(dev::Verb),
    /// Topologies: clusters that belong together.
    #[command(subcommand)]
    Topology(topology::Verb),
    /// Components of topologies: one kind of software on its nodes. Also: make and try new kinds.
    #[command(subcommand)]
    Component(component::Verb),
    /// Nodes of topologies.
    #[command(subcommand)]
    Node(node::Verb),
    /// Configuration: files by branch, values by component, history, tags.
    #[command(subcommand)]
    Config(config::Verb),
    /// Scripts that nodes run.
    #[command(subcommand)]
    Script(script::Verb),
    /// Binary files that you keep here, and nodes that are to have them.
    #[command(subcommand)]
    Storage(storage::Verb),
    /// Models of topologies in the configuration management system.
    #[command(subcommand)]
    Cms(cms::Verb),
    /// Jobs: what a request causes, step by step.
    #[command(subcommand)]
    Job(job::Verb),
    /// Rollouts: what reaches many components batch by batch, each verified before the next.
    #[command(subcommand)]
    Rollout(rollout::Verb),
    /// Hosts of the pool: machines that exist already and wait for a node.
    #[command(subcommand)]
    Host(pool::Host),
    /// Tokens with which hosts join the pool.
    #[command(subcommand)]
    JoinToken(pool::Token),
    /// The certificate authority of controllers and agents, and its exchange for another one.
    #[command(subcommand)]
    Ca(ca::Verb),
    /// Guest commands: run one on a node or on many, with its output.
    #[command(subcommand)]
    Command(command::Verb),
    /// Which guest commands there are and what they take.
    #[command(subcommand)]
    Guestcmd(guestcmd::Verb),
    /// Versions and scripts that failed on their first nodes and are kept from all others.
    #[command(subcommand)]
    Quarantine(quarantine::Verb),
    /// Log in: keeps a token for later commands.
    Login(people::login::Login),
    /// Tokens: for programs, and who you are.
    #[command(subcommand)]
    Token(people::token::Verb),
    /// Tenants: who owns topologies.
    #[command(subcommand)]
    Tenant(people::tenant::Verb),
    /// Users: people with passwords.
    #[command(subcommand)]
    User(people::user::Verb),
    /// What --if-match of a change takes: the ETag of what is there now.
    #[command(subcommand)]
    Etag(etag::Of),
    /// Who changed what, when, from where.
    Audit(audit::Audit),
    /// What a shell completes: `source <(straas completions bash)`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Versions of this program and of the controller.
    Version,
}

/// Prints both versions; a controller that is away is no error here.
async fn version(global: &Global) -> Result<(), CliError> {
    let client = client::Client::new(global)?;
    let own = env!("CARGO_PKG_VERSION");
    let controller = match client.about().await {
        Ok(about) => about["version"].as_str().unwrap_or("unknown").to_owned(),
        Err(CliError::Unreachable { .. }) => "no answer".to_owned(),
        Err(error) => return Err(error),
    };
    let answer = serde_json::json!({ "straas": own, "controller": controller, "endpoint": client.endpoint() });
    output::print(global.format(), &answer, |_| {
        format!("straas      {own}\ncontroller  {controller} at {}", client.endpoint())
    })
}

fn main() -> ExitCode {
    if std::env::args_os().len() == 1 {
        // clap's own way does not see that nothing was said while the environment says something
        anstream::eprint!("{}", Cli::command().render_help());
        return ExitCode::from(2);
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return CliError::Local(format!("cannot start: {error}")).report(),
    };
    let done = runtime.block_on(async {
        match cli.noun {
            Noun::Dev(verb) => dev::run(verb).await,
            Noun::Topology(verb) => topology::run(verb, &cli.global).await,
            Noun::Component(verb) => component::run(verb, &cli.global).await,
            Noun::Config(verb) => config::run(verb, &cli.global).await,
            Noun::Storage(verb) => storage::run(verb, &cli.global).await,
            Noun::Cms(verb) => cms::run(verb, &cli.global).await,
            Noun::Script(verb) => script::run(verb, &cli.global).await,
            Noun::Command(verb) => command::run(verb, &cli.global).await,
            Noun::Guestcmd(verb) => guestcmd::run(verb, &cli.global).await,
            Noun::Quarantine(verb) => quarantine::run(verb, &cli.global).await,
            Noun::Node(verb) => node::run(verb, &cli.global).await,
            Noun::Rollout(verb) => rollout::run(verb, &cli.global).await,
            Noun::Host(verb) => pool::host(verb, &cli.global).await,
            Noun::Ca(verb) => ca::run(verb, &cli.global).await,
            Noun::JoinToken(verb) => pool::token(verb, &cli.global).await,
            Noun::Job(verb) => job::run(verb, &cli.global).await,
            Noun::Login(login) => people::login::run(login, &cli.global).await,
            Noun::Token(verb) => people::token::run(verb, &cli.global).await,
            Noun::Tenant(verb) => people::tenant::run(verb, &cli.global).await,
            Noun::User(verb) => people::user::run(verb, &cli.global).await,
            Noun::Etag(of) => etag::run(of, &cli.global).await,
            Noun::Audit(audit) => audit::run(audit, &cli.global).await,
            Noun::Completions { shell } => {
                clap_complete::generate(shell, &mut Cli::command(), "straas", &mut std::io::stdout());
                Ok(())
            }
            Noun::Version => version(&cli.global).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
