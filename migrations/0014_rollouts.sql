-- Rollouts over the fleet, and the components that each of them goes through. A component has at most one that is open
-- of each kind: two would undo each other's work.
create table rollout (
    id       text collate "BINARY" not null primary key,
    kind     text collate "BINARY" not null,
    tenant   text collate "BINARY" not null,
    ended_ms bigint,
    revision bigint not null,
    document text not null
);
create index rollout_tenant on rollout (tenant, id);
create index rollout_open on rollout (id) where ended_ms is null;
create index rollout_open_tenant on rollout (tenant, id) where ended_ms is null;
create table rollout_member (
    rollout   text collate "BINARY" not null references rollout (id) on delete cascade,
    position  bigint not null,
    component text collate "BINARY" not null,
    kind      text collate "BINARY" not null,
    phase     text collate "BINARY" not null,
    is_open   bigint not null,
    document  text not null,
    primary key (rollout, position)
);
create unique index rollout_member_open on rollout_member (component, kind) where is_open = 1;
create index rollout_member_phase on rollout_member (rollout, phase);
