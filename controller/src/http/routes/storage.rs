//! Binary files, and nodes that are to have them.

use crate::http::access::Reach::{Never, Own};
use crate::http::lists::ListQuery;
use crate::http::route::on::{read, remove, send};
use crate::http::route::{Content, Route};
use crate::http::topologies::Mutation;
use crate::http::{files, storage as of};
use straas_schemas::storage::{FilesRemoval, FilesRequest, StoredFile, UploadView};
use straas_schemas::view::{DryRun, Page};

/// See the module.
pub fn routes() -> Vec<Route> {
    const FILE: &str = "/storage/{storage}/regions/{region}/{*path}";
    let region = |path: &str| {
        read(path, of::list_all)
            .says("Lists the caller's files in a region of a storage.")
            .may(Own, Own, Never)
            .query::<ListQuery>()
            .answers::<Page<StoredFile>>(200, "A page.")
    };
    vec![
        region("/storage/{storage}/regions/{region}"),
        region("/storage/{storage}/regions/{region}/"),
        read(FILE, of::list)
            .says("Lists the files at a path and below it; with `content`, gives the bytes of the file at it.")
            .may(Own, Own, Never)
            .query::<of::Listing>()
            .answers::<Page<StoredFile>>(200, "A page, or the bytes.")
            .answers_with(200, "", Some(Content::Bytes)),
        send(FILE, of::upload)
            .matches()
            .makes()
            .says("Uploads a file, `container/name`; what was there is replaced.")
            .may(Own, Own, Never)
            .query::<of::Upload>()
            .takes_bytes()
            .answers::<StoredFile>(201, "It is there.")
            .answers::<StoredFile>(200, "It is there, in the place of another."),
        remove(FILE, of::remove)
            .matches()
            .says("Deletes a file; nodes that were given it keep it.")
            .may(Own, Own, Never)
            .answers_with(204, "It is gone.", None),
        read("/storage/{storage}/uploads/{sha256}", of::uploaded)
            .says("Tells how much is here of an upload that broke off, by the hash it was announced with.")
            .may(Own, Own, Never)
            .answers::<UploadView>(200, "How much."),
        jobs(send("/nodes/files", files::give))
            .says("Has topologies, components or nodes keep a file of the storage at a path.")
            .takes::<FilesRequest>(),
        jobs(send("/nodes/files/removal", files::take))
            .says("Has topologies, components or nodes not keep a file any more that they were given.")
            .takes::<FilesRemoval>(),
    ]
}

fn jobs(route: Route) -> Route {
    route
        .may(Own, Own, Never)
        .query::<Mutation>()
        .answers::<super::Jobs>(202, "The jobs that do it.")
        .answers::<super::Jobs>(200, "All is as asked for.")
        .answers::<DryRun>(200, "What it would do.")
}
