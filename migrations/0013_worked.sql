-- Whether a validate of the node's present incarnation succeeded once. A node confirms a generation without
-- that while its services are stopped, so a confirmed generation does not say it. Of those that are recorded
-- already nothing else is known.
alter table node add column worked bigint not null default 0;
update node set worked = 1 where converged_generation > 0;
