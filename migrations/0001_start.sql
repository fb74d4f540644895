-- One text for SQLite and PostgreSQL. Ids and names TEXT, times BIGINT (Unix ms), yes/no BIGINT
-- 0 or 1, documents JSON in TEXT. "BINARY" is SQLite's own bytewise collation; on PostgreSQL the
-- store makes a collation of that name before it migrates, so that lists have one order everywhere,
-- whatever the locale of the database.

create table topology (
    id            text collate "BINARY" not null primary key,
    tenant        text collate "BINARY" not null,
    name          text collate "BINARY" not null,
    zone          text collate "BINARY" not null,
    branch        text not null,
    config_commit text not null,
    deleting      bigint not null,
    created_ms    bigint not null
);
create unique index topology_name on topology (name, zone);
create index topology_tenant on topology (tenant, id);

create table component (
    id       text collate "BINARY" not null primary key,
    topology text collate "BINARY" not null references topology (id) on delete cascade,
    name     text collate "BINARY" not null,
    ordinal  bigint not null,
    revision bigint not null,
    spec     text not null
);
create unique index component_name on component (topology, name);
create index component_ordinal on component (topology, ordinal, id);

-- What is planned of a node, its host, and what its newest incarnation reported in one value each.
create table node (
    id                   text collate "BINARY" not null primary key,
    topology             text collate "BINARY" not null references topology (id) on delete cascade,
    component            text collate "BINARY" not null references component (id) on delete cascade,
    group_name           text not null,
    role                 text not null,
    name                 text not null,
    ordinal              bigint not null,
    host_phase           text not null,
    host_address         text,
    host_error           text,
    host_changed_ms      bigint not null,
    incarnation          bigint not null,
    enrolled_ms          bigint,
    report_seq           bigint not null,
    converged_generation bigint not null,
    refused_generation   bigint,
    refused_reason       text,
    refused_seq          bigint not null
);
create index node_topology on node (topology, id);
create index node_component on node (component);

-- The newest assignment only: an agent never needs an older one.
create table assignment (
    node       text collate "BINARY" not null primary key references node (id) on delete cascade,
    generation bigint not null,
    digest     text not null,
    document   text not null,
    written_ms bigint not null
);

-- The newest heartbeat only. Rows of an older incarnation may be left by a race; readers skip them.
create table heartbeat (
    node        text collate "BINARY" not null primary key references node (id) on delete cascade,
    incarnation bigint not null,
    run         text not null,
    beat        bigint not null,
    received_ms bigint not null,
    document    text not null
);

-- The newest result of each stage.
create table stage_result (
    node        text collate "BINARY" not null references node (id) on delete cascade,
    stage       text collate "BINARY" not null,
    generation  bigint not null,
    seq         bigint not null,
    received_ms bigint not null,
    document    text not null,
    primary key (node, stage)
);

-- The last reports of a node's incarnation; the key is what makes receiving one twice harmless.
create table report (
    node        text collate "BINARY" not null references node (id) on delete cascade,
    incarnation bigint not null,
    seq         bigint not null,
    received_ms bigint not null,
    document    text not null,
    primary key (node, incarnation, seq)
);

-- Hashes of join tokens, never the tokens. The number counts the tokens of a node.
create table join_token (
    hash       text collate "BINARY" not null primary key,
    node       text collate "BINARY" not null references node (id) on delete cascade,
    number     bigint not null,
    expires_ms bigint not null,
    used_ms    bigint,
    -- the public key it was spent on, and the incarnation that made
    used_key    text,
    incarnation bigint
);
create index join_token_node on join_token (node, number);

-- Jobs and events outlive their topology: no foreign keys.
create table job (
    id            text collate "BINARY" not null primary key,
    kind          text collate "BINARY" not null,
    topology      text collate "BINARY" not null,
    topology_name text not null,
    tenant        text collate "BINARY" not null,
    detail        text not null,
    created_ms    bigint not null,
    standing      text,
    ended_ms      bigint,
    document      text
);
create index job_topology on job (topology, id);
create index job_tenant on job (tenant, id);
create index job_open on job (id) where ended_ms is null;
create index job_open_topology on job (topology, id) where ended_ms is null;
create index job_open_tenant on job (tenant, id) where ended_ms is null;

create table event (
    seq      bigint not null primary key,
    at_ms    bigint not null,
    topology text collate "BINARY" not null,
    node     text,
    kind     text not null,
    text     text not null
);
create index event_topology on event (topology, seq);

-- How many events of a topology are kept, so that pruning never has to count.
create table event_tally (
    topology text collate "BINARY" not null primary key,
    kept     bigint not null
);

-- The last number given out. Updating the row also orders writers, so that numbers become visible
-- in their order: a reader that saw number n never misses a smaller one that commits later.
create table counter (
    name  text collate "BINARY" not null primary key,
    value bigint not null
);
insert into counter (name, value) values ('event', 0);
