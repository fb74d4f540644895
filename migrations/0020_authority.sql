-- The certificate authorities of the fleet, once they were ever exchanged: one row. Private keys in it are sealed.
create table authority (
    name     text collate "BINARY" not null primary key,
    -- the one that issues: a certificate is recorded before it is made, and only while this one does
    issuer   text collate "BINARY" not null,
    revision bigint not null,
    document text not null
);
-- Of the certificates of each agent: the key that the last one was made for, and what it showed and said last.
create table node_certificate (
    node        text collate "BINARY" not null primary key references node (id) on delete cascade,
    incarnation bigint not null,
    issued_key  text,
    shown_key   text,
    shown_by    text,
    -- fingerprints with spaces between; null of an agent that does not say whom it trusts
    trusts      text
);
create table host_certificate (
    host        text collate "BINARY" not null primary key references pool_host (id) on delete cascade,
    incarnation bigint not null,
    issued_key  text,
    shown_key   text,
    shown_by    text,
    trusts      text
);
