-- How nodes are, as health checks found them: the newest word of the one that is built in, and of any
-- other. That of a node which is gone goes with it.
create table health (
    node     text collate "BINARY" not null references node (id) on delete cascade,
    built_in bigint not null,
    status   text not null,
    source   text not null,
    at_ms    bigint not null,
    primary key (node, built_in)
);

-- The model of a topology in the configuration management system, as it was last made or synced.
create table cms_model (
    topology   text collate "BINARY" not null primary key references topology (id) on delete cascade,
    document   text not null,
    written_ms bigint not null,
    author     text not null
);
