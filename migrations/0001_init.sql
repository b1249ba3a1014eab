-- Times are integer milliseconds since 1970 UTC. People read the views below; the tables may change.
-- No secret is ever written here: people copy this file around.

-- A Partner Center tenant of the configuration.
create table partner (
    id integer primary key,
    name text not null unique,
    -- When vetwatch first started with this partner. A verdict on a review submitted later is news even at first sight.
    watching_since integer not null,
    -- When the first complete customer list was taken over. Customers who join later are new customers.
    first_synced_at integer,
    last_synced_at integer,
    -- When `monitor.baseline` was told.
    baseline_told_at integer,
    -- Nothing is asked before this time: throttled, or our credential was refused.
    closed_until integer,
    closed_reason text,
    -- How many times in a row the gate closed without a good answer in between.
    closures integer not null default 0,
    check ((closed_until is null) = (closed_reason is null))
) strict;

-- A customer from `add` (or its arrival in a list) to `remove`. Adding again makes a new row: its watch begins anew.
create table customer (
    id integer primary key,
    partner integer not null references partner (id),
    -- The tenant id, as spelled.
    customer_id text not null,
    -- The tenant id, as compared: lower case.
    customer_key text not null,
    name text not null default '',
    domain text not null default '',
    tags text not null default '[]' check (json_valid(tags)),
    -- `listed`: added by hand; `synced`: from Partner Center's list.
    source text not null check (source in ('listed', 'synced')),
    added_at integer not null,
    removed_at integer,
    paused_at integer,
    -- Why it is asked when it is asked; also the order when the budget is short.
    poll_class text not null default 'first_sight'
        check (poll_class in ('second_look', 'in_review', 'settled', 'first_sight', 'unqualified')),
    next_poll_at integer not null,
    -- A question is under way since. Still set at start: the process died while asking.
    asking_since integer,
    -- How many times in a row the process died while asking.
    interrupted integer not null default 0,
    -- News is expected (a denial, a submission): asked like one in review until then at the latest.
    expected_until integer,
    -- The last understood answer, normalized, and when its request began. Equal answers change nothing; older ones are dropped.
    answer text,
    answer_began_at integer,
    first_seen_at integer,
    last_seen_at integer,
    -- Failed asks in a row, the first of them, and what the last one said.
    poll_failures integer not null default 0,
    failing_since integer,
    last_error text,
    blind_since integer,
    check ((poll_failures = 0) = (failing_since is null))
) strict;
create unique index customer_watched on customer (partner, customer_key) where removed_at is null;
create index customer_due on customer (partner, poll_class, next_poll_at) where removed_at is null and paused_at is null;
create index customer_key on customer (customer_key);
create index customer_asking on customer (asking_since) where asking_since is not null;

-- What is believed of one qualification of one customer. The row outlives the entry: the attempt number and the
-- verdict that was told must be remembered when the entry comes back.
create table observation (
    id integer primary key,
    customer integer not null references customer (id),
    -- The name as spelled, and as compared: lower case without underscores.
    qualification text not null,
    qualification_key text not null,
    -- 0: confirmed absent.
    present integer not null check (present in (0, 1)),
    vetting_status text,
    vetting_reason text,
    vetting_created_at integer,
    -- When it was first seen in this status.
    status_since integer not null,
    -- The review that this is, counted from 1; 0: none seen yet.
    attempt integer not null,
    -- That review's create date, where one was ever shown.
    attempt_created_at integer,
    -- When it was submitted: the create date, or when vetwatch saw the review begin.
    submitted_at integer,
    -- The last verdict told, or taken over silently at first sight.
    told_verdict text check (told_verdict in ('Approved', 'Denied')),
    told_reason text,
    told_created_at integer,
    told_attempt integer,
    -- The entry is missing from answers since; when it was last there; when the last look that counts was taken.
    missing_since integer,
    missing_after integer,
    missing_looks integer not null default 0,
    missing_looked_at integer,
    check ((missing_since is null) = (missing_looks = 0)),
    check (present = 1 or missing_since is null),
    check ((told_verdict is null) = (told_attempt is null)),
    unique (customer, qualification_key)
) strict;

-- What changed, with the answer that showed it. Never deleted.
create table transition (
    id integer primary key autoincrement,
    customer integer not null references customer (id),
    qualification text not null,
    -- Statuses as spelled; `absent`: no entry; null: an entry without status, or (from_status) never seen before.
    from_status text,
    to_status text,
    vetting_reason text,
    vetting_created_at integer,
    attempt integer not null,
    submitted_at integer,
    -- The change fell between these two.
    last_seen_before_at integer,
    observed_at integer not null,
    -- The verdict stood already when the customer was first seen.
    first_seen integer not null default 0 check (first_seen in (0, 1)),
    -- The evidence.
    raw_answer text,
    request_id text,
    correlation_id text,
    previous_reason text,
    previous_created_at integer,
    -- `absent` may also be a word of Partner Center's.
    check (first_seen = 1 or from_status = 'absent' or from_status is not to_status or previous_reason is not vetting_reason
           or previous_created_at is not vetting_created_at)
) strict;
create index transition_customer on transition (customer, observed_at);
create index transition_observed on transition (observed_at);
create trigger transition_is_kept before delete on transition
begin select raise(abort, 'transitions are never deleted'); end;

-- What is told. One for each transition, and the operational ones.
create table event (
    id text primary key,
    type text not null,
    transition integer unique references transition (id),
    partner integer not null references partner (id),
    customer integer references customer (id),
    occurred_at integer not null,
    -- The `data` object of the webhook.
    data text not null check (json_valid(data)),
    -- What may be told only once, by name.
    once text unique
) strict;
create index event_occurred on event (occurred_at);

-- The outbox: a message to an endpoint. Its id is the `webhook-id` and the `Message-ID`.
create table delivery (
    sequence integer primary key autoincrement,
    id text not null unique,
    endpoint text not null,
    -- Events of one group may share a delivery that has not been begun.
    group_key text,
    state text not null check (state in ('pending', 'delivered', 'dead')),
    created_at integer not null,
    -- Giving up is counted from here.
    first_due_at integer not null,
    -- When the next attempt may begin. An attempt in flight holds it one lease ahead.
    next_attempt_at integer,
    -- Not before this: a group's waiting time, quiet hours.
    held_until integer,
    -- Attempts begun; the rung of the retry schedule; attempts in a row that the process did not survive.
    attempts integer not null default 0,
    rung integer not null default 0,
    interrupted integer not null default 0,
    -- The message as every attempt sends it, from the first attempt on.
    message text,
    -- Recipients that have taken or refused it for good: {"address": "reply"}.
    settled text not null default '{}' check (json_valid(settled)),
    finished_at integer,
    last_error text,
    check ((state = 'pending') = (next_attempt_at is not null)),
    check ((state = 'pending') = (finished_at is null)),
    unique (id, endpoint)
) strict;
create index delivery_pending on delivery (endpoint, next_attempt_at) where state = 'pending';
create index delivery_order on delivery (endpoint, sequence) where state = 'pending';
create index delivery_state on delivery (state, finished_at);

create table delivery_event (
    delivery text not null,
    endpoint text not null,
    event text not null references event (id),
    foreign key (delivery, endpoint) references delivery (id, endpoint),
    primary key (event, endpoint) -- one delivery of an event to an endpoint
) strict, without rowid;
create index delivery_event_delivery on delivery_event (delivery);

-- One try to hand a delivery over. Without an end: under way, or the process died in it.
create table attempt (
    id integer primary key,
    delivery text not null references delivery (id),
    number integer not null,
    began_at integer not null,
    ended_at integer,
    outcome text check (outcome in ('accepted', 'failed', 'refused', 'interrupted')),
    -- What the other side answered, or why there was no answer.
    response text,
    check ((ended_at is null) = (outcome is null)),
    unique (delivery, number)
) strict;
create index attempt_open on attempt (delivery) where ended_at is null;
create index attempt_ended on attempt (ended_at);

-- What must be remembered of an endpoint of the configuration.
create table endpoint (
    name text primary key,
    -- It could not be reached: one message at a time probes it.
    closed_since integer,
    probe_at integer,
    -- Failures in a row.
    failures integer not null default 0,
    -- It said that it is gone (410): nothing is sent until its configuration changes or somebody redrives.
    paused_at integer,
    -- Which configuration it was paused under.
    paused_settings text,
    last_accepted_at integer,
    last_error text,
    check ((closed_since is null) = (probe_at is null))
) strict, without rowid;

-- One row: until when vetwatch is known to have run. The time that it did not run counts against nobody.
create table daemon (
    id integer primary key check (id = 1),
    ran_until integer not null
) strict;

---------------------------------------------------------------------------------------------------------------
-- The views: ISO 8601 in UTC, readable names. Documented in the README; changing one is a breaking change.

create view v_current as
select p.name as partner,
       c.customer_id,
       c.name as customer_name,
       c.domain as customer_domain,
       o.qualification,
       o.vetting_status,
       o.vetting_reason,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.vetting_created_at / 1000.0, 'unixepoch') as vetting_created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.status_since / 1000.0, 'unixepoch') as status_since,
       o.attempt,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.last_seen_at / 1000.0, 'unixepoch') as last_seen_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', case when c.paused_at is null then c.next_poll_at end / 1000.0, 'unixepoch') as next_poll_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.missing_since / 1000.0, 'unixepoch') as missing_since
from observation o
join customer c on c.id = o.customer
join partner p on p.id = c.partner
where o.present = 1 and c.removed_at is null;

create view v_transitions as
select t.id as transition_id,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.observed_at / 1000.0, 'unixepoch') as observed_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.last_seen_before_at / 1000.0, 'unixepoch') as last_seen_before_at,
       p.name as partner,
       c.customer_id,
       c.name as customer_name,
       t.qualification,
       t.from_status,
       t.to_status,
       t.vetting_reason,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.vetting_created_at / 1000.0, 'unixepoch') as vetting_created_at,
       t.attempt,
       e.type as event_type,
       e.id as event_id,
       t.correlation_id
from transition t
join customer c on c.id = t.customer
join partner p on p.id = c.partner
left join event e on e.transition = t.id;

create view v_decisions as
select p.name as partner,
       c.customer_id,
       c.name as customer_name,
       t.qualification,
       t.attempt,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.submitted_at / 1000.0, 'unixepoch') as submitted_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.last_seen_before_at / 1000.0, 'unixepoch') as decided_after,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.observed_at / 1000.0, 'unixepoch') as decided_before,
       case lower(t.to_status) when 'approved' then 'Approved' else 'Denied' end as outcome,
       t.vetting_reason,
       round((t.observed_at - t.submitted_at) / 3600000.0, 2) as hours_in_review
from transition t
join event e on e.transition = t.id
join customer c on c.id = t.customer
join partner p on p.id = c.partner
where t.first_seen = 0
  and (e.type in ('vetting.approved', 'vetting.denied')
       or (e.type = 'vetting.revoked' and lower(t.to_status) = 'denied' and lower(t.from_status) = 'inreview'));

create view v_deliveries as
select d.id as delivery_id,
       d.endpoint,
       d.state,
       d.attempts,
       (select count(*) from delivery_event de where de.delivery = d.id) as events,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.created_at / 1000.0, 'unixepoch') as created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.next_attempt_at / 1000.0, 'unixepoch') as next_attempt_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.finished_at / 1000.0, 'unixepoch') as finished_at,
       d.last_error
from delivery d;

create view v_customers as
select p.name as partner,
       c.customer_id,
       c.name,
       c.domain,
       (select group_concat(value, ',') from json_each(c.tags)) as tags,
       c.paused_at is not null as paused,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.last_seen_at / 1000.0, 'unixepoch') as last_seen_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', case when c.paused_at is null then c.next_poll_at end / 1000.0, 'unixepoch') as next_poll_at,
       c.poll_failures,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.blind_since / 1000.0, 'unixepoch') as blind_since,
       c.last_error,
       c.poll_class,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.added_at / 1000.0, 'unixepoch') as added_at
from customer c
join partner p on p.id = c.partner
where c.removed_at is null;
