-- A brake on implausible answers, and status words that nobody knows.

-- So many customers lost an entry within an hour that nothing is recorded as absent since then.
alter table partner add column implausible_since integer;
-- When a person said that entries that were missing are gone.
alter table partner add column absence_accepted_at integer;

create index observation_missing on observation (missing_since) where missing_since is not null;
create index observation_gone on observation (status_since) where present = 0;

-- Status words that are not documented, by partner. Told once, a little later, with how many customers have it.
create table unknown_word (
    partner integer not null references partner (id),
    -- As compared, and as first spelled.
    word text not null,
    spelled text not null,
    first_seen_at integer not null,
    told_at integer,
    primary key (partner, word)
) strict, without rowid;
