-- What the versions know that work on this database side by side while controllers are exchanged: the newest migration
-- of each that is there, its version, and the level that a version must have to work on it at all.
alter table controller add column level bigint not null default 20;
alter table controller add column version text not null default '';
insert into counter (name, value) values ('oldest_level', 19);
