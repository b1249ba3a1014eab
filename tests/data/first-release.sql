-- What a first release may have left: a review under way, a denial that was told by mail and is still on its way to a
-- webhook, a customer that cannot be read, and one that was removed.
insert into partner (id, name, watching_since, first_synced_at, last_synced_at) values (1, 'emea', 1760000000000, 1760000001000, 1763690400000);
insert into customer (id, partner, customer_id, customer_key, name, domain, tags, source, added_at, removed_at, poll_class, next_poll_at,
                      watch_closely_until, response, response_requested_at, first_seen_at, last_seen_at, poll_failures, failing_since, last_error) values
    (1, 1, 'B1D5A7C0-0000-4000-8000-000000000001', 'b1d5a7c0-0000-4000-8000-000000000001', 'Contoso School', 'contoso.example', '["north"]', 'synced',
     1760000001000, null, 'in_review', 1763713803000, 1764900000000, '[["education","denied"]]', 1763712842000, 1760000002000, 1763712843120, 0, null, null),
    (2, 1, 'b1d5a7c0-0000-4000-8000-000000000002', 'b1d5a7c0-0000-4000-8000-000000000002', 'Fabrikam College', '', '["south","trial"]', 'manual',
     1760000003000, null, 'in_review', 1763713803000, null, '[["education","inreview"]]', 1763712842000, 1760000003500, 1763712843000, 0, null, null),
    (3, 1, 'b1d5a7c0-0000-4000-8000-000000000003', 'b1d5a7c0-0000-4000-8000-000000000003', 'Tailspin Museum', 'tailspin.example', '["north"]', 'synced',
     1760000001000, null, 'unseen', 1763713803000, null, null, null, null, null, 4, 1763700000000, 'Partner Center answered HTTP 404'),
    (4, 1, 'b1d5a7c0-0000-4000-8000-000000000004', 'b1d5a7c0-0000-4000-8000-000000000004', 'Gone Ltd', 'gone.example', '["north"]', 'manual',
     1760000003000, 1763000000000, 'unqualified', 1763713803000, null, '[]', 1762999990000, 1760000003500, 1762999990100, 0, null, null);
insert into qualification_state (customer, qualification, qualification_key, present, vetting_status, vetting_reason, vetting_created_at, status_since,
                         attempt, attempt_created_at, submitted_at, notified_verdict, notified_reason, notified_created_at, notified_attempt) values
    (1, 'Education', 'education', 1, 'Denied', 'Not an Education Customer', 1763462258885, 1763712843120, 2, 1763462258885, 1763462258885,
     'Denied', 'not an education customer', 1763462258885, 2),
    (1, 'StateOwnedEntity', 'stateownedentity', 0, null, null, null, 1763000000000, 0, null, null, null, null, null, null),
    (2, 'Education', 'education', 1, 'InReview', null, null, 1763600000000, 1, null, 1763600000000, null, null, null, null);
insert into transition (id, customer, qualification, from_status, to_status, vetting_reason, vetting_created_at, attempt, submitted_at,
                        last_seen_before_at, observed_at, raw_answer, request_id, correlation_id, outcome) values
    (1, 1, 'Education', 'InReview', 'Denied', 'Not an Education Customer', 1763462258885, 2, 1763462258885, 1763711943000, 1763712843120,
     '[{"qualification":"Education","vettingStatus":"Denied"}]', '0a0a0a0a-0000-4000-8000-000000000001', '7d240000-0000-4000-8000-000000000001', 'Denied'),
    (2, 2, 'Education', 'absent', 'InReview', null, null, 1, 1763600000000, 1763599100000, 1763600000000, '[]', null, null, null);
insert into event (id, type, transition, partner, customer, occurred_at, data) values
    ('01930000-0000-7000-8000-000000000001', 'vetting.denied', 1, 1, 1, 1763712843120, '{"event_id":"01930000-0000-7000-8000-000000000001"}'),
    ('01930000-0000-7000-8000-000000000002', 'vetting.submitted', 2, 1, 2, 1763600000000, '{"event_id":"01930000-0000-7000-8000-000000000002"}');
insert into delivery (id, endpoint, state, created_at, first_due_at, next_attempt_at, attempts, retry_index, message, finished_at, last_error) values
    ('01940000-0000-7000-8000-000000000001', 'sales-mail', 'delivered', 1763712843120, 1763712843120, null, 1, 0, 'Subject: x', 1763712844000, null),
    ('01940000-0000-7000-8000-000000000002', 'crm', 'pending', 1763712843120, 1763712843120, 1763713200000, 2, 2, '{}', null, 'HTTP 500'),
    ('01940000-0000-7000-8000-000000000003', 'old-crm', 'dead', 1763712843120, 1763712843120, null, 9, 5, '{}', 1763712999000, 'HTTP 410');
insert into delivery_event (delivery, endpoint, event) values
    ('01940000-0000-7000-8000-000000000001', 'sales-mail', '01930000-0000-7000-8000-000000000001'),
    ('01940000-0000-7000-8000-000000000002', 'crm', '01930000-0000-7000-8000-000000000001');
insert into attempt (delivery, number, began_at, ended_at, outcome, response) values
    ('01940000-0000-7000-8000-000000000001', 1, 1763712843200, 1763712844000, 'accepted', '250 2.0.0 taken'),
    ('01940000-0000-7000-8000-000000000002', 1, 1763712843200, 1763712844000, 'failed', 'HTTP 500'),
    ('01940000-0000-7000-8000-000000000002', 2, 1763712943200, null, null, null);
insert into endpoint (name, failures, last_accepted_at, last_error) values ('crm', 2, 1763700000000, 'HTTP 500');
insert into daemon (id, alive_at) values (1, 1763712950000);
