-- Recipients who refuse a message for good while others take it, and hand-overs whose end nobody saw.

-- Recipients that refused it for good: {"address": "reply"}. Those who left the configuration meanwhile are taken out;
-- a redrive sends it again to those that are left.
alter table delivery add column refused text not null default '{}' check (json_valid(refused));
-- When the last of them did, and when the operators were told.
alter table delivery add column refused_at integer;
alter table delivery add column refused_told_at integer;
create index delivery_refused on delivery (endpoint, refused_at) where refused <> '{}';

-- The first message since the last answer that was handed over and not answered.
alter table endpoint add column unconfirmed_since integer;
