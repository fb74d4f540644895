-- What workflows on a running topology need: jobs of one component, hosts that are replaced, and
-- what failed its canaries.

alter table job add column component text collate "BINARY";
-- What puts back the numbers that it changed, should it be cancelled.
alter table job add column undo text;

-- Which replacement the host is; of no host, that of the last.
alter table node add column host_number bigint not null default 0;

-- Versions ("zookeeper@3.9.0") and commits of the script repo that nobody should get any more.
-- They concern everybody, so they outlive the topology where they failed: no foreign key.
create table quarantine (
    what     text collate "BINARY" not null,
    name     text collate "BINARY" not null,
    reason   text not null,
    topology text collate "BINARY" not null,
    at_ms    bigint not null,
    primary key (what, name)
);
