-- When a partner's credentials end, as far as that is known: [{"of": "client secret", "at": "2026-11-21T12:00:00.000Z"}].
alter table partner add column credentials text not null default '[]' check (json_valid(credentials));
