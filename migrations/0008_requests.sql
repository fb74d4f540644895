-- Requests that name themselves: asked again, they are answered as the first time. One mechanism for all; commands had
-- one of their own.
drop table command_request;

create table request (
    tenant      text collate "BINARY" not null,
    request_key text collate "BINARY" not null,
    digest      text not null,
    -- who carries it out, and until when nobody else takes it over
    claim       text not null,
    until_ms    bigint not null,
    -- what it made, noted in the same moment as that was made; none: it has changed nothing
    made        text,
    answer      text,
    created_ms  bigint not null,
    primary key (tenant, request_key)
);
create index request_created on request (created_ms);

-- Rises with every change of a user: what an ETag is made of.
alter table account add column revision bigint not null default 1;
