-- Which controller does what only one of them should do at a time. The number of a lease rises whenever somebody takes one,
-- and is never given twice: whoever had it before, and does not know yet that it is gone, is known by his number.
create table lease (
    name     text collate "BINARY" not null primary key,
    holder   text collate "BINARY" not null,
    epoch    bigint not null,
    until_ms bigint not null
);
create index lease_holder on lease (holder);
insert into counter (name, value) values ('lease', 0);
