-- Files that tenants keep in the storage, by name. Their content is kept by its hash, wherever the
-- storage keeps it; a hash that no name and no component needs any more is swept away.
create table stored_file (
    tenant     text collate "BINARY" not null,
    storage    text collate "BINARY" not null,
    region     text collate "BINARY" not null,
    path       text collate "BINARY" not null,
    size       bigint not null,
    sha256     text collate "BINARY" not null,
    created_ms bigint not null,
    author     text not null,
    primary key (tenant, storage, region, path)
);
create index stored_file_sha256 on stored_file (sha256);

-- Uploads and removals of one tenant come one after the other, so that his limit holds for all of
-- them together.
create table stored_tenant (
    tenant text collate "BINARY" not null primary key,
    bytes  bigint not null
);
