-- How many assignments were written for a topology: what is planned of it holds while no other one was written since. Of two
-- plans of two controllers, each right for what it had read, both together might disturb too many nodes at once.
alter table topology add column writes bigint not null default 0;
