-- Users, tenants and tokens of a controller that asks no Keystone. Of a password the argon2 hash is
-- kept, of a token the SHA-256: neither can be had back from here.

create table tenant (
    id         text collate "BINARY" not null primary key,
    created_ms bigint not null
);

create table account (
    name       text collate "BINARY" not null primary key,
    password   text,
    created_ms bigint not null
);

-- What a user may be in a tenant: one role in each.
create table membership (
    account text collate "BINARY" not null references account (name) on delete cascade,
    tenant  text collate "BINARY" not null references tenant (id) on delete cascade,
    role    text not null,
    primary key (account, tenant)
);
create index membership_tenant on membership (tenant);

-- A token without a tenant only shows that its user gave his password. One without a user was made
-- by an administrator, for a program.
create table token (
    id         text collate "BINARY" not null primary key,
    hash       text collate "BINARY" not null,
    label      text not null,
    account    text collate "BINARY" references account (name) on delete cascade,
    tenant     text collate "BINARY" references tenant (id) on delete cascade,
    role       text,
    made_by    text not null,
    created_ms bigint not null,
    expires_ms bigint not null
);
create unique index token_hash on token (hash);
create index token_tenant on token (tenant, id);
create index token_account on token (account, expires_ms, id);
create index token_expires on token (expires_ms);
