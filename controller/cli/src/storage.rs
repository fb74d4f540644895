//! `straas storage …`: binary files that a tenant keeps, and nodes that are to have them.
//!
//! An upload that broke off is gone on with when the same file is put again: the controller says how
//! much of it is there. A download is checked against its hash before it gets its name.

use crate::Global;
use crate::client::{Ask, Client};
use crate::content::Upload;
use crate::error::CliError;
use crate::mutation::{self, How, Seen};
use crate::output::{print, table, time};
use crate::routes;
use crate::whom::Whom;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use straas_schemas::storage::{FilesRemoval, FilesRequest, StoredFile, UploadView};

/// What to do with files.
#[derive(Subcommand)]
pub enum Verb {
    /// Upload a file; what is there under its path is replaced.
    Put {
        /// The file on this machine.
        file: PathBuf,
        /// Where to: CONTAINER/NAME.
        path: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        seen: Seen,
    },
    /// List files.
    List {
        /// Only what is at this path or below it.
        #[arg(default_value = "")]
        path: String,
        #[command(flatten)]
        place: Place,
    },
    /// Download a file.
    Get {
        /// The file: CONTAINER/NAME.
        path: String,
        /// Where to on this machine.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Delete a file; nodes that were given it keep it.
    Remove {
        /// The file: CONTAINER/NAME.
        path: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        seen: Seen,
    },
    /// Have nodes keep a file of the storage; nodes that are added later get it, too.
    Give {
        /// The file: CONTAINER/NAME.
        path: String,
        /// Absolute path on the nodes.
        #[arg(value_name = "TARGET")]
        target_path: String,
        #[command(flatten)]
        whom: Whom,
        /// Permission bits in octal; 0644 if absent.
        #[arg(long)]
        mode: Option<String>,
        /// The region the file is in; the zone of each topology if absent.
        #[arg(long)]
        region: Option<String>,
        /// The storage the file is in; the only one if absent.
        #[arg(long)]
        storage: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Have nodes not keep a file any more that they were given.
    Take {
        /// Absolute path on the nodes.
        #[arg(value_name = "TARGET")]
        target_path: String,
        #[command(flatten)]
        whom: Whom,
        #[command(flatten)]
        how: How,
    },
}

/// Where files are.
#[derive(Args)]
pub struct Place {
    /// The region: a zone whose nodes are to have them.
    #[arg(long, env = "STRAAS_REGION", hide_env_values = true)]
    region: String,
    /// The storage.
    #[arg(long, default_value = "local")]
    storage: String,
}

impl Place {
    /// The parts of the path of a file there.
    pub fn at<'a>(&'a self, path: &'a str) -> [&'a str; 3] {
        [&self.storage, &self.region, path]
    }
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::Put { file, path, place, seen } => put(&client, &file, &path, &place, &seen, global).await,
        Verb::List { path, place } => {
            let (route, parts) = match path.as_str() {
                "" => (routes::FILES_ALL, &place.at("")[..2]),
                path => (routes::FILES, &place.at(path)[..]),
            };
            let found: Vec<StoredFile> = client.all(route, parts, &[]).await?;
            print(global.format(), &found, |found| list(found))
        }
        Verb::Get { path, file, place } => {
            let ask = Ask::new(routes::FILES, &place.at(&path)).with("content", "true");
            let bytes = client.download(ask, &file).await?;
            anstream::eprintln!("{} has {bytes} bytes", file.display());
            Ok(())
        }
        Verb::Remove { path, place, seen } => {
            let ask = Ask::new(routes::FILE_REMOVE, &place.at(&path)).if_seen(seen.if_match.as_deref());
            client.call::<()>(ask).await?;
            anstream::eprintln!("{path} is gone");
            Ok(())
        }
        Verb::Give { path, target_path, whom, mode, region, storage, how } => {
            let Some((container, filename)) = path.split_once('/') else {
                return Err(CliError::Input(format!("{path} is not CONTAINER/NAME")));
            };
            let (container, filename) = (container.to_owned(), filename.to_owned());
            let (scope, items) = whom.found(&client).await?;
            let request = FilesRequest { scope, items, container, filename, target_path, storage, region, mode };
            mutation::send(&client, Ask::new(routes::FILES_GIVE, &[]).body(&request), how, global).await
        }
        Verb::Take { target_path, whom, how } => {
            let (scope, items) = whom.found(&client).await?;
            let request = FilesRemoval { scope, items, target_path };
            mutation::send(&client, Ask::new(routes::FILES_TAKE, &[]).body(&request), how, global).await
        }
    }
}

async fn put(
    client: &Client,
    file: &std::path::Path,
    path: &str,
    place: &Place,
    seen: &Seen,
    global: &Global,
) -> Result<(), CliError> {
    let mut upload = Upload::of(file)?;
    let there: UploadView = client.get(routes::UPLOAD, &[&place.storage, &upload.sha256]).await?;
    let offset = there.have.min(upload.size);
    if offset > 0 {
        upload.skip(offset)?;
        anstream::eprintln!("{offset} of {} bytes are there already", upload.size);
    }
    let (target, offset) = (routes::FILE_PUT.at(&place.at(path)), offset.to_string());
    let query = [("offset", offset.as_str())];
    let (target, seen) = (format!("/straas/v1.0{target}"), seen.if_match.as_deref());
    let stored: StoredFile = client.upload(&target, &query, seen, upload).await?;
    print(global.format(), &stored, |f| format!("{} has {} bytes ({})", f.path, f.size, f.sha256))
}

fn list(found: &[StoredFile]) -> String {
    let row = |f: &StoredFile| {
        vec![f.path.clone(), f.size.to_string(), time(f.created_ms), f.author.clone(), f.sha256.to_string()]
    };
    table(&["path", "bytes", "uploaded", "by", "sha256"], found.iter().map(row))
}
