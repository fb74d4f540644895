-- How often in a row the host of a node could not be made or removed, and when it is tried again.
alter table node add column host_attempt bigint not null default 0;
alter table node add column host_next_ms bigint;
