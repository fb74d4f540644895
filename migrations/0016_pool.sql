-- The pool: hosts that exist already and wait for a node, and the tokens that they join with.
create table pool_host (
    id          text collate "BINARY" not null primary key,
    zone        text collate "BINARY" not null,
    -- the node it is to have; that of one host at most
    node        text collate "BINARY",
    -- the node that it last said it has
    holds       text collate "BINARY",
    incarnation bigint not null,
    revision    bigint not null,
    -- rises with each change of any host: what a controller has not heard of is above what it has
    change      bigint not null,
    seen_ms     bigint,
    document    text not null
);
create unique index pool_host_node on pool_host (node) where node is not null;
create index pool_host_holds on pool_host (holds) where holds is not null;
create index pool_host_zone on pool_host (zone, id);
create index pool_host_change on pool_host (change);
-- Hashes of tokens, never the tokens.
create table pool_token (
    id         text collate "BINARY" not null primary key,
    hash       text collate "BINARY" not null,
    host       text collate "BINARY" references pool_host (id) on delete cascade,
    joined     bigint not null,
    most       bigint not null,
    expires_ms bigint not null,
    document   text not null
);
create unique index pool_token_hash on pool_token (hash);
create index pool_token_host on pool_token (host) where host is not null;
create index pool_token_expires on pool_token (expires_ms);
-- Which public key a token was spent on, and what came of it: the answer may have been lost.
create table pool_joined (
    token       text collate "BINARY" not null references pool_token (id) on delete cascade,
    public_key  text collate "BINARY" not null,
    host        text collate "BINARY" not null references pool_host (id) on delete cascade,
    incarnation bigint not null,
    primary key (token, public_key)
);
create index pool_joined_host on pool_joined (host);
insert into counter (name, value) values ('pool', 0);
