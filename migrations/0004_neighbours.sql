-- Which components depend on components of other topologies. It is what their specs say, the other
-- way round: who changes a topology has to find those that need it.
create table dependency (
    component    text collate "BINARY" not null references component (id) on delete cascade,
    topology     text collate "BINARY" not null,
    on_component text collate "BINARY" not null references component (id) on delete cascade,
    on_topology  text collate "BINARY" not null,
    primary key (component, on_component)
);
create index dependency_down on dependency (topology, on_topology, on_component);
create index dependency_up on dependency (on_topology, topology);
create index dependency_on on dependency (on_component);

-- New ones are recorded one at a time: two that are fine alone could close a circle together.
insert into counter (name, value) values ('dependency', 0);
