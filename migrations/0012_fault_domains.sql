-- What a host shares with others and fails with, as its provider says.
alter table node add column host_domain text;
