-- What controllers over one database tell each other, so that each need not look at everything all the time. A word says of
-- what there is news, never what it is. Kept for some minutes: whoever missed more looks at everything.
create table news (
    seq      bigint not null primary key,
    said_by  text collate "BINARY" not null,
    at_ms    bigint not null,
    document text not null
);
create index news_at on news (at_ms);
insert into counter (name, value) values ('news', 0);
-- The controllers that are there, each by its own clock.
create table controller (
    id      text collate "BINARY" not null primary key,
    seen_ms bigint not null
);
create index controller_seen on controller (seen_ms);
