-- What nodes were told, beside the newest assignment: who asks how something came about needs what a node was told
-- then. The last ones of each node are kept.
create table assignment_history (
    node       text collate "BINARY" not null references node (id) on delete cascade,
    generation bigint not null,
    digest     text not null,
    document   text not null,
    written_ms bigint not null,
    primary key (node, generation)
);
insert into assignment_history (node, generation, digest, document, written_ms)
    select node, generation, digest, document, written_ms from assignment;
create index report_received on report (node, received_ms, incarnation, seq);
