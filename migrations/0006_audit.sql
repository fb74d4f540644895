-- Who changed what, when, from where: appended to, never changed. That a request began is written
-- before anything is done for it; how it ended, after. A beginning without an end is a request in
-- which the controller died: what came of it shows in what is there.

create table audit (
    seq        bigint not null primary key,
    at_ms      bigint not null,
    request_id text not null,
    caller     text collate "BINARY" not null,
    tenant     text collate "BINARY" not null,
    token      text not null,
    source     text not null,
    method     text not null,
    path       text not null
);
create index audit_tenant on audit (tenant, seq);

create table audit_end (
    seq       bigint not null primary key references audit (seq),
    at_ms     bigint not null,
    status    bigint not null,
    topology  text collate "BINARY",
    changes   text not null
);
create index audit_end_topology on audit_end (topology, seq);

insert into counter (name, value) values ('audit', 0);
