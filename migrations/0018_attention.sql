-- What needs a person: troubles that operators know of, and since when vetwatch runs without a gap.

-- A trouble that the operators were told of, until they were told that it is over.
create table raised (
    -- A name of the list in src/attention.rs, and what it is about: a partner, an endpoint.
    reason text not null,
    about text not null,
    told_at integer not null,
    -- It looks over since. Told a little later, unless it comes back.
    over_since integer,
    primary key (reason, about)
) strict, without rowid;

-- vetwatch has run since then without a gap of more than two minutes: what waited longer waited for vetwatch to start.
alter table daemon add column ran_from integer;

-- No list of the customers could be read since.
alter table partner add column list_failing_since integer;
update partner set list_failing_since = last_synced_at where list_error is not null;
