-- Guest commands. They outlive their node and topology, so that what was done stays known: no
-- foreign keys to those. What ends them then is `settle_commands`.

create table command (
    id                text collate "BINARY" not null primary key,
    batch             text collate "BINARY",
    operation_key     text collate "BINARY",
    operation_attempt bigint,
    tenant            text collate "BINARY" not null,
    topology          text collate "BINARY" not null,
    component         text collate "BINARY" not null,
    node              text collate "BINARY" not null,
    node_name         text not null,
    command           text not null,
    args              text not null,
    files             text not null,
    timeout_s         bigint not null,
    idempotent        bigint not null,
    author            text not null,
    created_ms        bigint not null,
    deadline_ms       bigint not null,
    standing          text collate "BINARY" not null,
    -- waits for others of its batch: no agent is offered it
    held              bigint not null,
    cancelling        bigint not null,
    started_ms        bigint,
    ended_ms          bigint,
    -- how it ended, as reported; or why it was taken for ended without a report
    document          text,
    assumed           text,
    -- bytes kept in command_output
    output_bytes      bigint not null,
    -- number of its last change, see the counter `command`
    changed           bigint not null
);
create index command_all on command (created_ms, id);
create index command_node on command (node, created_ms, id);
create index command_component on command (component, created_ms, id);
create index command_topology on command (topology, created_ms, id);
create index command_tenant on command (tenant, created_ms, id);
create index command_of_batch on command (batch, created_ms, id) where batch is not null;
create index command_operation on command (topology, operation_key, operation_attempt) where operation_key is not null;
create index command_open on command (node, created_ms, id) where ended_ms is null;
create index command_deadline on command (deadline_ms) where standing = 'queued';
create index command_ended on command (ended_ms) where ended_ms is not null;
create index command_changed on command (changed, id);

-- Its output in pieces without gaps; position is the offset of the first byte.
create table command_output (
    command  text collate "BINARY" not null references command (id) on delete cascade,
    position bigint not null,
    bytes    bytea not null,
    primary key (command, position)
);

create table command_batch (
    id          text collate "BINARY" not null primary key,
    tenant      text collate "BINARY" not null,
    topology    text collate "BINARY" not null,
    component   text collate "BINARY",
    command     text not null,
    concurrency bigint,
    max_errors  bigint,
    author      text not null,
    created_ms  bigint not null,
    ended_ms    bigint
);
create index command_batch_open on command_batch (id) where ended_ms is null;
create index command_batch_created on command_batch (created_ms);

-- Requests that name themselves: asking again is answered with what was made the first time.
create table command_request (
    tenant      text collate "BINARY" not null,
    request_key text collate "BINARY" not null,
    digest      text not null,
    target      text not null,
    created_ms  bigint not null,
    primary key (tenant, request_key)
);
create index command_request_created on command_request (created_ms);

insert into counter (name, value) values ('command', 0);
