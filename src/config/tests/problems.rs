//! The problems that an administrator sees.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const BAD: &str = include_str!("bad.toml");

#[test]
fn everything_that_is_wrong_is_told_at_once_and_in_words() {
    let desk = Desk::new();
    desk.secret("empty", "\n\n");
    let problems = desk.problems(BAD);
    assert!(!problems.contains("hunter2"), "{problems}");
    insta::assert_snapshot!(problems, @r#"
    vetwatch.toml:3: databse: unknown key; did you mean database?
    vetwatch.toml:6: partner "emea north": name: "emea north" is not a name: use up to 64 letters, digits, dots, hyphens and underscores, and no blanks
    vetwatch.toml:7: partner "emea north": tenant: is empty
    vetwatch.toml:8: partner "emea north": client_id: must be text in quotes, not a number
    vetwatch.toml:9: partner "emea north": cloud: comercial is not one of commercial, us-government, china; did you mean commercial?
    vetwatch.toml:10: partner "emea north": requests_per_minute: 0 is not between 1 and 1000000
    vetwatch.toml:11: partner "emea north": max_in_flight: must be a whole number, not text in quotes
    vetwatch.toml:12: partner "emea north": customers: some is not one of synced, manual
    vetwatch.toml:15: partner "emea north": credential.client_secret: a secret does not belong in this file: put it in a file of its own, and that file's name in client_secret_file
    vetwatch.toml:17: partner "apac": login_url: is missing: it goes with api_url
    vetwatch.toml:19: partner "apac": tenant: contoso.onmicrosoft.com/../evil is neither a GUID nor a domain such as contoso.onmicrosoft.com
    vetwatch.toml:21: partner "apac": api_url: http://api.contoso.example/ is not https
    vetwatch.toml:24: partner "apac": credential.certificate_file: there is no file of this name (not shown, as it may be the secret) in DIR; write it with (umask 077; cat > DIR/FILE)
    vetwatch.toml:25: partner "apac": credential.client_secret_expires: belongs to the kind client-secret, and this is certificate
    vetwatch.toml:27: partner "apac": user_credential.kind: client-secret is not a kind for a user: write kind = "refresh-token"
    vetwatch.toml:30: partner "APAC": tenant: is missing
    vetwatch.toml:31: partner "APAC": name: APAC is the name of another partner, too; case and underscores make no difference
    vetwatch.toml:33: partner "APAC": api_url: https://api.contoso.example/?… contains more than a host and a path
    vetwatch.toml:34: partner "APAC": login_url: is not a URL: it does not begin with https://
    vetwatch.toml:37: partner "APAC": credential.client_secret_file: /no/such/file does not exist
    vetwatch.toml:38: partner "APAC": credential.client_secret_expires: soon is not a date such as 2027-01-31
    vetwatch.toml:39: partner "APAC": credential.federated_token_file: stands beside the keys of kind client-secret: delete one of the two
    vetwatch.toml:42: schedule.in_review: 5s is too often; the least is 1m
    vetwatch.toml:43: schedule.in_revew: unknown key; did you mean in_review?
    vetwatch.toml:44: schedule.settled: "10 parsecs" is not a duration such as 15m, 24h or 7d
    vetwatch.toml:45: schedule.unqualified: 10m is more often than in_review (15m)
    vetwatch.toml:46: schedule.confirm_absence, entry 1: 0s must be more than zero
    vetwatch.toml:47: schedule.customer_sync: "0 3 * * *" has 5 fields; it needs six: second, minute, hour, day, month, weekday, as in "0 0 3 * * *"
    vetwatch.toml:48: schedule.timezone: Europe/Amsterdm is not a time zone: write a region and a city, such as Europe/Berlin; did you mean Europe/Amsterdam? (the same for route 1: timezone)
    vetwatch.toml:51: smtp.office.host: smtp.contoso.example:587 is not a host name: write the name alone; the port goes in port, the encryption in tls
    vetwatch.toml:54: smtp.office.password: a secret does not belong in this file: put it in a file of its own, and that file's name in password_file
    vetwatch.toml:58: smtp.relay.port: 70000 is not between 1 and 65535
    vetwatch.toml:59: smtp.relay.tls: none is only for a mail server on this machine (localhost, 127.0.0.1, ::1)
    vetwatch.toml:60: smtp.relay.ca_file: DIR/no-such.pem does not exist
    vetwatch.toml:61: smtp.relay.hello: relay is no full host name such as vetwatch.contoso.example; many mail servers refuse others
    vetwatch.toml:65: endpoint "sales-mail": smtp: there is no [smtp.offise]; did you mean office?
    vetwatch.toml:66: endpoint "sales-mail": from: vetwatch is no mail address such as sales@contoso.example
    vetwatch.toml:67: endpoint "sales-mail": to, entry 2: SALES@contoso.example is named twice
    vetwatch.toml:67: endpoint "sales-mail": to, entry 3: nobody is no mail address such as sales@contoso.example
    vetwatch.toml:67: endpoint "sales-mail": to, entry 4: jürgen@büro.example is not ASCII before the @; many mail servers accept no such address
    vetwatch.toml:72: endpoint "crm": url: http://crm.example/hook is not https
    vetwatch.toml:73: endpoint "crm": secret_file: the file is empty
    vetwatch.toml:76: endpoint "crm": name: crm is the name of another endpoint, too
    vetwatch.toml:79: endpoint "crm": url: stands beside url_file: delete one of the two
    vetwatch.toml:80: endpoint "crm": secret: a secret does not belong in this file: put it in a file of its own, and that file's name in secret_file
    vetwatch.toml:85: endpoint "chat": url_file: there is no file "teams-url" in DIR; write it with (umask 077; cat > DIR/teams-url)
    vetwatch.toml:89: endpoint "pager": kind: there is no kind wehbook, only email, webhook, teams, slack, ntfy; did you mean webhook?
    vetwatch.toml:92: route 1: events, entry 1: there is no event vetting.aproved; did you mean vetting.approved?
    vetwatch.toml:94: route 1: partners, entry 1: there is no partner emae
    vetwatch.toml:96: route 1: group_wait: 3d is too long; the longest is 1d
    vetwatch.toml:97: route 1: group_by, entry 2: qualifcation is not one of event, partner, qualification, outcome, customer, reason, tags; did you mean qualification?
    vetwatch.toml:98: route 1: quiet_hours: 18:00-18:00 is empty: both times are the same
    vetwatch.toml:100: route 1: attempts, entry 1: 0 is not an attempt such as 1, 2-3 or 3+
    vetwatch.toml:100: route 1: attempts, entry 3: many is not an attempt such as 1, 2-3 or 3+
    vetwatch.toml:101: route 1: urgent: vetting.revoked is not among the events of this route
    vetwatch.toml:103: route 2: events: is missing
    vetwatch.toml:104: route 2: endpoints: is an empty list: it needs at least one entry
    vetwatch.toml:106: operators.endpoints: is missing
    vetwatch.toml:109: retry.schedule, entry 2: soon is not a duration such as 15m, 24h or 7d
    vetwatch.toml:110: retry.give_up_after: must be text in quotes, not a number
    vetwatch.toml:113: web.listen: localhost is not an address with a port, such as 127.0.0.1:9464
    vetwatch.toml:114: web.public_url: must begin with https://, because people open it from other machines
    vetwatch.toml:115: web.hosts, entry 1: https://vetting.contoso.example is not a host's name, such as vetting.contoso.example
    vetwatch.toml:116: web.trusted_proxy.header: "X Forwarded User" is not the name of a header
    vetwatch.toml:116: web.trusted_proxy.from, entry 1: 10.0.0.5/33 is not an address or network such as 10.0.0.5/32
    vetwatch.toml:116: web.trusted_proxy.from, entry 2: is every address: anybody could claim to be signed in
    vetwatch.toml:119: retention.attempts: 1h is too short; the least is 1d
    vetwatch.toml:121: backup.dir: is missing
    vetwatch.toml:122: backup.keep: 0 is not between 1 and 10000
    vetwatch.toml:123: backup.schedule: "30 2 * * *" has 5 fields; it needs six: second, minute, hour, day, month, weekday, as in "0 30 2 * * *"
    "#);
}

#[test]
fn a_file_that_is_not_toml_is_told_where_and_without_its_text() {
    let desk = Desk::new();
    let problems = desk.problems("[database]\npath = \"x\"\n[smtp.office]\npassword = hunter2 and more\n");
    insta::assert_snapshot!(problems, @r#"
    vetwatch.toml:4: column 12: text needs quotes, as in name = "emea"
         4 | password = ······· ··· ····
           |            ^
    "#);
    let problems = desk.problems("[web]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n");
    insta::assert_snapshot!(problems, @r#"
    vetwatch.toml:3: column 1: the key stands in line 2 already: delete one, or put the header of a new section above
         3 | listen = "···········"
           | ^
    "#);
}

#[test]
fn the_line_that_is_not_toml_acts_on_no_terminal_and_no_log() {
    let desk = Desk::new();
    for acting in ["\u{1b}", "\u{b}", "\u{202e}", "\u{85}"] {
        for line in
            [format!("[part{acting}ner]"), format!("[[endpoint]]{acting}name = 1"), format!("x = a {acting} \"b\"")]
        {
            let problems = desk.problems(&line);
            assert!(problems.contains(" | ") && !problems.contains(acting), "{problems:?}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_a_problem_with_its_full_path() {
    let missing = Config::load(Path::new("/no/such/vetwatch.toml"), &CredentialDirs::only("/no/such")).unwrap_err();
    insta::assert_snapshot!(missing, @r#"
    vetwatch.toml: /no/such/vetwatch.toml does not exist; `vetwatch init` writes one, and --config FILE or VETWATCH_CONFIG names another
    "#);
}

#[test]
fn an_empty_file_is_told_what_is_needed() {
    insta::assert_snapshot!(Desk::new().problems(""), @r#"
    vetwatch.toml: partner: is missing: add a section [[partner]] for the Partner Center tenant to watch
    vetwatch.toml: endpoint: is missing: add a section [[endpoint]] for each place that messages go to
    vetwatch.toml: operators: is missing: add a section [operators], with the endpoints that are told when something fails
    "#);
}

#[test]
fn one_mistake_makes_one_problem() {
    let desk = Desk::new();
    desk.certificates();
    desk.secret("proxy", "http://me:hunter2@proxy.example:3128");
    let table = [
        ("tenant = \"contoso.onmicrosoft.com\"", "tenat = \"contoso.onmicrosoft.com\""),
        ("[partner.credential]", "[partner.credentials]"),
        ("host = \"smtp.contoso.example\"", "host = 'smtp.contoso.example'\ntls = 'none'"),
        ("username = \"vetwatch\"", ""),
        ("to = [\"it-operations@contoso.example\"]", "to = 'it-operations@contoso.example'"),
        ("to = [\"it-operations@contoso.example\"]", "to = []"),
        ("smtp = \"office\"", "smtp = 'offices'"),
        ("url_file = \"crm-url\"", ""),
        ("url_file = \"crm-url\"", "url = 'https://u:hunter2@crm.example/'"),
        ("url_file = \"crm-url\"", "url = 'https://169.254.169.254/latest'"),
        ("url_file = \"crm-url\"", "url = 'https://[::ffff:169.254.169.254]/latest'"),
        ("url_file = \"crm-url\"", "url = 'http://hooks.example/T01/abcdefghijklmnopqrstuvwx?sig=hunter2'"),
        ("url_file = \"crm-url\"", "url = 'crm.example/hook'"),
        ("url_file = \"crm-url\"", "url_file = 'smtp-password'"),
        ("url_file = \"crm-url\"", "url = 'https://0251.0376.43518/latest'"),
        ("url_file = \"crm-url\"", "url = 'http://10.0.0.1/hook'"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nallow_networks = '10.1.0.0/16'"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nallow_networks = ['10.1.0.0/33']"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nallow_networks = ['10.1.0.1', '10.1.2.3/16']"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nallow_networks = ['169.254.169.254']"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nca_file = 'smtp-password'"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nclient_certificate = 'hunter2'"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nclient_certificate_file = 'smtp-password'"),
        (
            "url_file = \"crm-url\"",
            "url_file = 'crm-url'\nclient_certificate_file = 'app.pem'\nclient_key_file = 'other.key'",
        ),
        (
            "url_file = \"crm-url\"",
            "url_file = 'crm-url'\nclient_certificate_file = 'app.pem'\nclient_key_file = 'encrypted.key'",
        ),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nclient_key_file = 'other.key'"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nproxy_url = 'http://me:hunter2@proxy.example:3128'"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nproxy_url = 'socks5://proxy.example:1080'"),
        (
            "url_file = \"crm-url\"",
            "url_file = 'crm-url'\nproxy_url = 'http://proxy.example:3128/hunter2-is-the-password'",
        ),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nproxy_url = 'http://169.254.169.254'"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nproxy_url = 'http://a.example'\nproxy_url_file = 'proxy'"),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nproxy_url_file = 'smtp-password'"),
        ("url_file = \"crm-url\"", "url = 'https://localhost/hook'\nproxy_url = 'http://proxy.example:3128'"),
        ("# max_in_flight = 8", "proxy_url = 'http://me:hunter2@proxy.example:3128'"),
        ("# max_in_flight = 8", "proxy_url = 'socks5://proxy.example:1080'"),
        ("# max_in_flight = 8", "proxy_url = 'http://169.254.169.254'"),
        ("# max_in_flight = 8", "proxy_url = 'http://a.example'\nproxy_url_file = 'proxy'"),
        ("# max_in_flight = 8", "proxy_url_file = 'smtp-password'"),
        (
            "# max_in_flight = 8",
            "api_url = 'https://api.example'\nlogin_url = 'http://127.0.0.1'\nproxy_url = 'http://a.example'",
        ),
        ("secret_file = \"crm-signing-secret\"", "secret_file = 'smtp-password'"),
        ("client_secret_file = \"client-secret\"", "client_secret_file = 'hunter2-pasted-here'"),
        ("client_secret_file = \"client-secret\"", "client_secret_file = '.'"),
        ("timezone = \"Europe/Amsterdam\"", "customer_sync = '0 0 9 31 2 *'"),
        ("timezone = \"Europe/Amsterdam\"", "customer_sync = '* * * * * *'"),
        ("timezone = \"Europe/Amsterdam\"", "customer_sync = '0 0 25 * * *'"),
        ("timezone = \"Europe/Amsterdam\"", "settled = '5m'"),
        ("timezone = \"Europe/Amsterdam\"", "in_review = '20y'"),
        ("[operators]", "[operator]"),
        ("[database]", "[[database]]"),
        ("[[route]]", "[route]"),
        ("[retention]", "[retention]\n\"a\\u001b[31m\" = 1"),
        ("# tags = [\"north\"]", "tags = [\"n\\u001b[31m\"]"),
    ];
    let shown: Vec<String> = table.iter().map(|(old, new)| desk.problem(old, new)).collect();
    let shown = shown.join("\n");
    assert!(!shown.contains("hunter2") && !shown.contains('\u{1b}'), "{shown}");
    insta::assert_snapshot!(shown, @r#"
    vetwatch.toml: partner "emea": tenat: unknown key; did you mean tenant?
    vetwatch.toml: partner "emea": credentials: unknown section; did you mean [partner.credential]?
    vetwatch.toml: smtp.office.tls: none is only for a mail server on this machine (localhost, 127.0.0.1, ::1)
    vetwatch.toml: smtp.office.username: is missing: it goes with password_file
    vetwatch.toml: endpoint "ops-mail": to: must be a list, even of one entry: to = ["…"]
    vetwatch.toml: endpoint "ops-mail": to: is an empty list: it needs at least one entry
    vetwatch.toml: endpoint "sales-mail": smtp: there is no [smtp.offices]; did you mean office?
    vetwatch.toml: endpoint "crm": url: is missing (or url_file, where the URL itself is a secret)
    vetwatch.toml: endpoint "crm": url: contains a password: put the URL in a file, and that file's name in url_file
    vetwatch.toml: endpoint "crm": url: https://169.254.169.254/latest names an address that vetwatch never talks to
    vetwatch.toml: endpoint "crm": url: https://[::ffff:a9fe:a9fe]/latest names an address that vetwatch never talks to
    vetwatch.toml: endpoint "crm": url: http://hooks.example/T01/…?… is not https
    vetwatch.toml: endpoint "crm": url: is not a URL: it does not begin with https://
    vetwatch.toml: endpoint "crm": url_file: the text in the file is not a URL: it does not begin with https://
    vetwatch.toml: endpoint "crm": url: https://169.254.169.254/latest names an address that vetwatch never talks to
    vetwatch.toml: endpoint "crm": url: http://10.0.0.1/hook is not https
    vetwatch.toml: endpoint "crm": allow_networks: must be a list, even of one entry: allow_networks = ["…"]
    vetwatch.toml: endpoint "crm": allow_networks, entry 1: 10.1.0.0/33 is not a network such as 10.1.0.0/16
    vetwatch.toml: endpoint "crm": allow_networks, entry 2: 10.1.2.3/16 is an address in a network: write the network, 10.1.0.0/16
    vetwatch.toml: endpoint "crm": allow_networks, entry 1: 169.254.169.254/32 is never talked to: a link-local address, where clouds keep their metadata
    vetwatch.toml: endpoint "crm": ca_file: DIR/smtp-password contains no certificate in PEM
    vetwatch.toml: endpoint "crm": client_certificate: a secret does not belong in this file: put it in a file of its own, and that file's name in client_certificate_file
    vetwatch.toml: endpoint "crm": client_certificate_file: the file contains no certificate in PEM
    vetwatch.toml: endpoint "crm": client_certificate_file: the key does not belong to the certificate
    vetwatch.toml: endpoint "crm": client_certificate_file: the key has a passphrase, which vetwatch cannot ask for: store it without
    vetwatch.toml: endpoint "crm": client_certificate_file: is missing: it goes with client_key_file
    vetwatch.toml: endpoint "crm": proxy_url: contains a password: put the URL in a file, and that file's name in proxy_url_file
    vetwatch.toml: endpoint "crm": proxy_url: socks5://proxy.example:1080 is not a proxy such as http://proxy.example:3128
    vetwatch.toml: endpoint "crm": proxy_url: http://proxy.example:3128/… contains more than a host and a port
    vetwatch.toml: endpoint "crm": proxy_url: http://169.254.169.254/ names an address that vetwatch never talks to
    vetwatch.toml: endpoint "crm": proxy_url: stands beside proxy_url_file: delete one of the two
    vetwatch.toml: endpoint "crm": proxy_url_file: the text in the file is not a URL such as http://proxy.example:3128
    vetwatch.toml: endpoint "crm": proxy_url: has no use here: the URL is on this machine, which for a proxy would be the proxy's own
    vetwatch.toml: partner "emea": proxy_url: contains a password: put the URL in a file, and that file's name in proxy_url_file
    vetwatch.toml: partner "emea": proxy_url: socks5://proxy.example:1080 is not a proxy such as http://proxy.example:3128
    vetwatch.toml: partner "emea": proxy_url: http://169.254.169.254/ names an address that vetwatch never talks to
    vetwatch.toml: partner "emea": proxy_url: stands beside proxy_url_file: delete one of the two
    vetwatch.toml: partner "emea": proxy_url_file: the text in the file is not a URL such as http://proxy.example:3128
    vetwatch.toml: partner "emea": proxy_url: makes no sense here: a URL leads to this machine, and a proxy would take that for itself
    vetwatch.toml: endpoint "crm": secret_file: line 1 of the file is not a signing key: whsec_ and base64; echo "whsec_$(openssl rand -base64 32)" prints a new one
    vetwatch.toml: partner "emea": credential.client_secret_file: there is no file of this name (not shown, as it may be the secret) in DIR; write it with (umask 077; cat > DIR/FILE)
    vetwatch.toml: partner "emea": credential.client_secret_file: the file is a directory, not a file
    vetwatch.toml: schedule.customer_sync: "0 0 9 31 2 *" never comes: there is no such date
    vetwatch.toml: schedule.customer_sync: "* * * * * *" is too often; the first field, the seconds, must be one number
    vetwatch.toml: schedule.customer_sync: "0 0 25 * * *" is not a cron expression: 25 is not an hour (0-23)
    vetwatch.toml: schedule.settled: 5m is more often than in_review (15m)
    vetwatch.toml: schedule.in_review: 20y is longer than ten years
    vetwatch.toml: operator: unknown section; did you mean [operators]?
    vetwatch.toml: database: is one section: write [database], not [[database]]
    vetwatch.toml: route: must be written [[route]], with two pairs of brackets: there may be several
    vetwatch.toml: retention."a�[31m": unknown key
    vetwatch.toml: route 1: tags, entry 1: contains a control character
    "#);
}

#[test]
fn doubts_are_warnings() {
    let desk = Desk::new();
    desk.secret("proxy", "http://me:hunter2@proxy.example:3128");
    desk.secret("open", &format!("{SIGNING}\n{SIGNING}\n"));
    fs::set_permissions(desk.path("open"), fs::Permissions::from_mode(0o644)).unwrap();
    let table = [
        ("endpoints = [\"ops-mail\", \"crm\"]", "endpoints = ['crm']"),
        ("endpoints = [\"ops-mail\", \"crm\"]", "endpoints = ['ops-mail', 'sales-mail']"),
        ("\"vetting.vanished\", \"vetting.overdue\"", ""),
        (
            "# qualifications = [\"Education\"]",
            "qualifications = ['Educaton', 'state_owned_entity']\noutcomes = ['denid', '!approved']",
        ),
        ("# requests_per_minute = 300", "requests_per_minute = 900"),
        ("# give_up_after = \"7d\"", "give_up_after = '1h'"),
        ("secret_file = \"crm-signing-secret\"", "secret_file = 'open'"),
        (
            "url_file = \"crm-url\"",
            "url_file = 'crm-url'\nproxy_url = 'http://proxy.example:3128'\nallow_networks = ['10.1.0.1']",
        ),
        ("url_file = \"crm-url\"", "url_file = 'crm-url'\nproxy_url_file = 'proxy'"),
        ("[retry]", "[smtp.spare]\nhost = 'localhost'\ntls = 'none'\n[retry]"),
    ];
    let shown: Vec<String> = table.iter().flat_map(|(old, new)| desk.warnings(old, new)).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    endpoint "ops-mail": is never used: neither a route, nor a fallback, nor [operators] names it
    operators.endpoints: names one endpoint only: when that fails, nobody is told. Add one that does not depend on it
    operators.endpoints: all use the mail server office: when that fails, nobody is told. Add one that does not depend on it
    route: no route takes vetting.vanished, vetting.overdue: the operators get them
    route 1: qualifications, entry 1: Partner Center documents no qualification Educaton; did you mean Education?
    route 1: outcomes, entry 1: Partner Center documents no status denid; did you mean Denied?
    partner "emea": requests_per_minute: 900 is more than the 500 that Microsoft allows a tenant
    retry.give_up_after: a message that cannot be delivered for 1h is given up, and an outage may be longer
    endpoint "crm": secret_file: every user of this machine can open the file (mode 644): chmod 600 it
    endpoint "crm": proxy_url: the proxy looks the endpoint's name up, so vetwatch cannot check the address behind it: let the proxy refuse private ones
    endpoint "crm": allow_networks: has no effect: the proxy looks names up
    endpoint "crm": proxy_url_file: the proxy looks the endpoint's name up, so vetwatch cannot check the address behind it: let the proxy refuse private ones
    smtp.spare: no endpoint uses this mail server
    "#);
}

#[test]
fn what_a_credential_lacks_or_has_too_much_of_is_told() {
    let desk = Desk::new();
    desk.certificates();
    let table = [
        "kind = 'certificat'",
        "kind = 'certificate'",
        "kind = 'certificate'\ncertificate_file = 'app.pem'\nclient_secret_file = 'client-secret'",
        "kind = 'certificate'\ncertificate_file = 'app.pem'\nprivate_key_file = 'other.key'",
        "kind = 'certificate'\ncertificate_file = 'app.pem'\nprivate_key_file = 'encrypted.key'",
        "kind = 'certificate'\ncertificate_file = 'short.pem'",
        "kind = 'certificate'\ncertificate_file = 'client-secret'",
        "kind = 'certificate'\ncertificate = 'hunter2'",
        "kind = 'workload-identity'",
        "kind = 'workload-identity'\nfederated_token_file = '/no/such/token'",
        "kind = 'managed-identity'\nfederated_token_file = 'client-secret'",
        "kind = 'managed-identity'\nmanaged_identity_client_id = 'vetwatch'",
        "kind = 'managed-identity'\nimds_url = 'http://169.254.169.254/metadata'",
        "kind = 'managed-identity'\nimds_url = 'https://imds.contoso.example/'",
        "kind = 'client-secret'\nclient_secret_file = 'client-secret'\nmanaged_identity_client_id = 'x'",
        "kind = 'refresh-token'",
        "kind = 'refresh-token'\nclient_secret_file = 'client-secret'\ncertificate_file = 'app.pem'",
        "kind = 'client-secret'\nclient_secret_file = 'client-secret'\nclient_secret_expires = '31.1.2027'",
        "kind = 'client-secret'\nclient_secret_file = 'client-secret'\n[partner.user_credential]\nkind = 'certificate'",
        "kind = 'client-secret'\nclient_secret_file = 'client-secret'\n[partner.user_credential]\nkind = 'refresh-token'\nprivate_key_file = 'x'",
        "kind = 'client-secret'\nclient_secret_file = 'client-secret'\n[partner.user_credential]",
    ];
    let old = credential_lines();
    let shown: Vec<String> = table.iter().map(|new| desk.problem(old, &format!("{new}\n"))).collect();
    let shown = shown.join("\n");
    assert!(!shown.contains("hunter2"), "{shown}");
    insta::assert_snapshot!(shown, @r#"
    vetwatch.toml: partner "emea": credential.kind: there is no kind certificat, only client-secret, certificate, workload-identity, managed-identity, refresh-token; did you mean certificate?
    vetwatch.toml: partner "emea": credential.certificate_file: is missing
    vetwatch.toml: partner "emea": credential.client_secret_file: belongs to the kind client-secret, and this is certificate
    vetwatch.toml: partner "emea": credential.private_key_file: the private key and the certificate do not belong together
    vetwatch.toml: partner "emea": credential.private_key_file: the private key is encrypted; vetwatch starts unattended and cannot ask for a passphrase: store it without
    vetwatch.toml: partner "emea": credential.certificate_file: the private key is too short or too long: 2048 to 4096 bits
    vetwatch.toml: partner "emea": credential.certificate_file: the file holds no certificate (-----BEGIN CERTIFICATE-----)
    vetwatch.toml: partner "emea": credential.certificate: a secret does not belong in this file: put it in a file of its own, and that file's name in certificate_file
    vetwatch.toml: partner "emea": credential.federated_token_file: is missing
    vetwatch.toml: partner "emea": credential.federated_token_file: /no/such/token does not exist
    vetwatch.toml: partner "emea": credential.federated_token_file: belongs to the kind workload-identity, and this is managed-identity
    vetwatch.toml: partner "emea": credential.managed_identity_client_id: vetwatch is not a client id, which is a GUID
    vetwatch.toml: partner "emea": credential.imds_url: is only for a stand-in on this machine, in rehearsals and tests; the service itself has one address
    vetwatch.toml: partner "emea": credential.imds_url: is only for a stand-in on this machine, in rehearsals and tests; the service itself has one address
    vetwatch.toml: partner "emea": credential.managed_identity_client_id: belongs to the kind managed-identity, and this is client-secret
    vetwatch.toml: partner "emea": credential.client_secret_file: is missing (or certificate_file, federated_token_file or managed_identity_client_id): a refresh token works only for the application that it was given to, which has to sign in, too
    vetwatch.toml: partner "emea": credential.certificate_file: stands beside the keys of kind client-secret: delete one of the two
    vetwatch.toml: partner "emea": credential.client_secret_expires: 31.1.2027 is not a date such as 2027-01-31
    vetwatch.toml: partner "emea": user_credential.kind: certificate is not a kind for a user: write kind = "refresh-token"
    vetwatch.toml: partner "emea": user_credential.private_key_file: belongs to the kind certificate, and this is refresh-token
    vetwatch.toml: partner "emea": user_credential.kind: is missing: kind = "refresh-token"
    "#);
}

#[test]
fn a_name_of_before_the_first_release_is_an_error_that_suggests_the_one_of_today() {
    for (old, now) in [
        ("customers = \"all\"", "did you mean synced?"),
        ("customers = \"listed\"", "did you mean manual?"),
        ("[schedule]\nsecond_look = \"2m\"", "did you mean confirm_absence?"),
        ("[schedule]\nthird_look = \"1h\"", "did you mean confirm_absence?"),
        ("[[route]]\nevents = [\"monitor.blind\"]\nendpoints = [\"crm\"]", "did you mean monitor.partner_failing?"),
        (
            "[[route]]\nevents = [\"vetting.unrecognized\"]\nendpoints = [\"crm\"]",
            "did you mean monitor.unknown_status?",
        ),
    ] {
        let text = if old.starts_with('[') { old.to_owned() } else { format!("[[partner]]\nname = \"emea\"\n{old}") };
        let problems = Desk::new().problems(&text);
        assert!(problems.contains(now), "{old}: {problems}");
    }
}

#[test]
fn one_cause_in_several_places_is_one_problem() {
    let report = Report::default();
    let cause = "/etc/vetwatch/credentials may not be looked into by this user. As root, write each secret there";
    for path in ["partner[0].credential.client_secret_file", "smtp.office.password_file", "endpoint[0].url_file"] {
        report.problem(path.into(), cause);
        report.problem(path.into(), "is missing");
    }
    let problems = report.finish("vetwatch.toml".into(), &Places::default(), None::<()>).unwrap_err().to_string();
    insta::assert_snapshot!(problems, @r#"
    vetwatch.toml: partner 1: credential.client_secret_file: /etc/vetwatch/credentials may not be looked into by this user. As root, write each secret there (the same for smtp.office.password_file; endpoint 1: url_file)
    vetwatch.toml: partner 1: credential.client_secret_file: is missing
    vetwatch.toml: smtp.office.password_file: is missing
    vetwatch.toml: endpoint 1: url_file: is missing
    "#);
}
