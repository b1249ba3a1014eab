//! Classifies rejections by mail servers: a table of their replies.
//!
//! Errs on the safe side: only a reply that is known to be about a mailbox ends a recipient, and only one that is known
//! to be about the content ends a message. Any other counts against the endpoint, and the message waits.
//!
//! To add a row, put it above the first one that would match the reply as well; the first match counts.

use tracing::debug;

use super::session::{Reply, Step};

/// What a rejection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// This mailbox, for good: it does not exist, is closed, or rejects us by a rule of its own.
    Mailbox,
    /// This mailbox, for now: full, busy, greylisted.
    MailboxForNow,
    /// This content: it would be rejected from any sender.
    Content,
    /// Us, our server, or not known: the next message would be rejected as well.
    Endpoint,
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    at: At,
    /// `550`, `55x`, `5xx`; several with `|`.
    code: &'static str,
    /// The enhanced status (RFC 3463): `5.1.1`, `5.7.*`, `5.7.606-649`, `none`, several with `|`; empty matches any.
    status: &'static str,
    /// Texts in lower case, of which the reply contains one; empty matches any.
    words: &'static [&'static str],
    blame: Blame,
    /// The source of the row.
    source: &'static str,
}

/// The steps of a session that a row applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Any,
    /// Greeting, EHLO, STARTTLS, AUTH, MAIL FROM: before any recipient or message.
    Before,
    Rcpt,
    /// DATA, and after the final dot.
    Data,
    /// RCPT, DATA, and after the final dot.
    Late,
}

impl At {
    fn includes(self, step: Step) -> bool {
        match self {
            Self::Any => true,
            Self::Before => step <= Step::Sender,
            Self::Rcpt => step == Step::Recipients,
            Self::Data => step >= Step::Data,
            Self::Late => step >= Step::Recipients,
        }
    }
}

/// Classifies a reply of 4xx or 5xx at this step.
pub(super) fn blame(step: Step, reply: &Reply) -> Blame {
    let (code, status) = (reply.code.to_string(), status(&reply.text));
    // Addresses are not the server's words.
    let words = reply.text.split_ascii_whitespace().filter(|word| !word.contains('@'));
    let text = words.collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    let row = ROWS.iter().find(|row| {
        row.at.includes(step)
            && row.code.split('|').any(|pattern| is_code(pattern, &code))
            && (row.status.is_empty() || row.status.split('|').any(|pattern| is_status(pattern, status)))
            && (row.words.is_empty() || row.words.iter().any(|words| text.contains(words)))
    });
    let (blame, source) = row.map_or((Endpoint, "nobody"), |row| (row.blame, row.source));
    debug!(?step, reply.text, ?blame, source, "a refusal");
    blame
}

/// True if the server accepts no further recipient in this transaction (RFC 5321 4.5.3.1.10).
pub(super) fn is_too_many(reply: &Reply) -> bool {
    matches!(reply.code, 452 | 552 | 550 | 554)
        && (matches!(status(&reply.text), Some("4.5.3" | "5.5.3"))
            || reply.text.to_ascii_lowercase().contains("too many recipients"))
}

fn is_code(pattern: &str, code: &str) -> bool {
    pattern.len() == code.len() && pattern.bytes().zip(code.bytes()).all(|(p, c)| p == b'x' || p == c)
}

fn is_status(pattern: &str, status: Option<&str>) -> bool {
    let Some(status) = status else { return pattern == "none" };
    let Some((subject, detail)) = pattern.rsplit_once('.') else { return false };
    let Some(found) = status.strip_prefix(subject).and_then(|rest| rest.strip_prefix('.')) else { return false };
    match detail.split_once('-') {
        _ if detail == "*" => true,
        Some((first, last)) => {
            let number = |text: &str| text.parse::<u16>().ok();
            matches!((number(first), number(found), number(last)), (Some(a), Some(n), Some(z)) if a <= n && n <= z)
        }
        None => found == detail,
    }
}

/// The enhanced status of a reply: the word after the code, `5.1.1` or `#5.1.0`; or qmail's `(#5.1.1)` at the end.
fn status(text: &str) -> Option<&str> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let first = words.next().into_iter();
    let marked = words.filter(|word| word.contains('#'));
    first.chain(marked).find_map(|word| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let mut parts = word.split('.');
        let is_number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        let is_status = matches!(parts.next(), Some("4" | "5")) && parts.clone().count() == 2 && parts.all(is_number);
        is_status.then_some(word)
    })
}

use At::{Any, Before, Data, Late, Rcpt};
use Blame::{Content, Endpoint, Mailbox, MailboxForNow};

const fn row(
    at: At,
    code: &'static str,
    status: &'static str,
    words: &'static [&'static str],
    blame: Blame,
    source: &'static str,
) -> Row {
    Row { at, code, status, words, blame, source }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Before RCPT nothing is about a recipient.
    row(Before, "4xx|5xx", "", &[], Endpoint, "RFC 5321 3.1, 3.3, 4.3.2"),

    // Replies to RCPT or DATA that are about us: our account, our sender, a check of our sender's address.
    row(Late, "5xx", "", &["your account", "sending account", "callout", "sender verif", "sender is invalid", "header from", "reached today"], Endpoint, "accounts that are suspended, quotas, Exim sender verification; the sender is the same in every message"),
    // A full mailbox, not a large message.
    row(Late, "5xx", "", &["mailbox size", "mailbox full", "mailbox is full"], MailboxForNow, "RFC 3463 x.2.2 in words"),

    // Transient.
    row(Any,  "421", "", &[], Endpoint, "RFC 5321 3.8: the server closes the connection"),
    row(Late, "4xx", "4.7.1|4.2.0|4.3.0|4.7.0|none", &["greylist", "graylist", "grey-list", "gray-list", "greylisting"], MailboxForNow, "Postgrey, RFC 6647"),
    row(Late, "4xx", "", &["relay limit", "sending limit", "daily limit", "rate limit"], Endpoint, "Google: 4.2.1 Peak SMTP relay limit exceeded for this customer"),
    row(Rcpt, "432", "", &[], MailboxForNow, "Microsoft: recipient thread limit exceeded"),
    row(Rcpt, "4xx", "4.2.*", &[], MailboxForNow, "RFC 3463 X.2: mailbox status"),
    row(Rcpt, "4xx", "4.1.1|4.1.2|4.1.6", &[], MailboxForNow, "Postfix unknown_address_reject_code"),
    row(Rcpt, "4xx", "none", &["mailbox full", "over quota", "quota exceeded", "mailbox busy", "mailbox is full"], MailboxForNow, "RFC 5321 4.2.3"),
    row(Any,  "4xx", "", &[], Endpoint, "RFC 5321 4.2.1: transient"),

    // The command was not understood or not expected, or the login is missing.
    row(Rcpt, "501|553", "5.1.3", &[], Mailbox, "Postfix smtpd: bad recipient address syntax"),
    row(Rcpt, "501|504|553", "", &["recipient address rejected: need fully-qualified address", "bad recipient address syntax", "recipient address must contain a domain", "recipient address has null mx"], Mailbox, "Postfix reject_non_fqdn_recipient, Exim"),
    row(Any,  "500|501|502|503|504|555", "", &[], Endpoint, "RFC 5321 4.2.4, 4.3.2: command or parameter; Postfix: need fully-qualified hostname"),
    row(Any,  "523|524|525|530|534|535|538|554", "5.7.8|5.7.9|5.7.11|5.7.12|5.7.14|5.7.15|5.7.139|5.7.57", &[], Endpoint, "RFC 4954, RFC 5248, Microsoft: not logged in"),
    row(Any,  "530|534|535|538", "", &[], Endpoint, "RFC 4954: a login is wanted, or another one"),

    // A mailbox's own rules. Above the texts below: "RESOLVER.RST.AuthRequired; authentication required".
    row(Late, "550", "5.7.124|5.7.129|5.7.133-137", &[], Mailbox, "Microsoft NDR codes: a group or mailbox that takes from some only"),
    row(Late, "550", "5.7.1", &["resolver.rst.notauthorized", "resolver.rst.authrequired", "resolver.rst.sendernotauthenticated"], Mailbox, "Exchange transport: restricted recipient"),
    row(Late, "5xx", "5.7.17|5.7.18", &[], Mailbox, "RFC 7293: the mailbox or its domain has another owner"),
    row(Late, "5xx", "", &["authentication required", "authentication is required", "must authenticate", "not authenticated", "unauthenticated", "authenticate first", "login required", "must issue a starttls", "client was not authenticated", "auth required"], Endpoint, "Exim, Postfix, SendGrid"),

    // The sender.
    row(Late, "5xx", "5.1.7|5.1.8|5.1.9|5.1.90", &[], Endpoint, "RFC 3463 bad sender; Microsoft: bad outbound sender, a day's limit"),
    row(Late, "5xx", "", &["sender address", "sender rejected", "sender denied", "sender verify", "sender verification", "sender domain", "domain of sender", "invalid sender", "bad sender", "blocked sender", "blocked senders", "sender blocked", "sender is blocked", "banned sender", "unknown sender", "verify sender", "sender unknown", "sender not", "from address", "mail from", "return path", "envelope from"], Endpoint, "Postfix reject_unknown_sender_domain and others, Exim, Sendmail, Mimecast"),
    row(Late, "5xx", "", &["sendasdenied", "send as denied", "not allowed to send as", "permissions to send as", "permission to send as", "not owned by user", "not permitted to send", "not allowed to send", "not authorized to send", "not authorised to send"], Endpoint, "Exchange submission, Postfix reject_sender_login_mismatch"),
    row(Late, "5xx", "5.2.252|5.2.254", &[], Endpoint, "Microsoft: SendAsDenied"),
    row(Late, "5xx", "5.7.60|5.7.64|5.7.68", &[], Endpoint, "Microsoft: may not send as this; no such tenant; Direct Send is off"),
    row(Late, "5xx", "", &["direct send"], Endpoint, "Microsoft: RejectDirectSend"),

    // The sending host.
    row(Late, "5xx", "", &["helo command rejected", "helo/ehlo", "client host", "reverse dns", "reverse lookup", "reverse hostname", "ptr record", "ptr resource record", "rdns", "fcrdns", "invalid helo", "bad helo", "fully-qualified hostname", "host network not allowed", "your ip", "your host", "ip address", "connecting ip", "[ip]"], Endpoint, "Postfix reject_unknown_client_hostname, GMX, Mimecast"),
    row(Late, "5xx", "", &["blocked using", "spamhaus", "spamcop", "barracudacentral", "sorbs", "blocklist", "block list", "blacklist", "black list", "black-list", "denylist", "dnsbl", "dnsrbl", "poor reputation", "low reputation", "bad reputation", "reputation of the", "reputation sender", "senderbase", "senderscore", "sender score", "cloudmark", "proofpoint.com/dnsbl", "ipcheck.proofpoint", "blocked - see"], Endpoint, "Postfix reject_rbl_client, Spamhaus, Proofpoint, Barracuda, Google"),
    row(Late, "5xx", "5.7.606-649", &[], Endpoint, "Microsoft: banned sending IP"),
    row(Late, "5xx", "5.7.501-513", &[], Endpoint, "Microsoft: banned sender, suspended for spam, DMARC, domain"),
    row(Late, "5xx", "5.7.700-799", &[], Endpoint, "Microsoft: tenant over its limit, no traffic from this IP, unregistered domain"),
    row(Late, "5xx", "5.7.232|5.7.233", &[], Endpoint, "Microsoft: tenant outbound limits"),

    // Relaying.
    row(Late, "5xx", "5.7.54|5.7.367|5.7.368", &[], Endpoint, "Microsoft: unable to relay recipient in non-accepted domain"),
    row(Late, "5xx", "", &["relay access denied", "relaying denied", "relay denied", "relay not permitted", "relaying not permitted", "not permitted to relay", "unable to relay", "relaying not allowed", "relay not allowed", "not allowed to relay", "relaying prohibited", "relaying is prohibited", "relaying is not", "relaying disallowed", "relaying disabled", "do not relay", "does not relay", "don't relay", "won't relay", "no relaying", "for relay", "rcpthosts", "relay operation rejected", "relaying mail"], Endpoint, "Postfix, Exim, Sendmail, qmail, Exchange, Google Workspace relay"),

    // Limits and rates.
    row(Late, "5xx", "5.2.121|5.2.122", &[], MailboxForNow, "Microsoft: the recipient gets too much an hour"),
    row(Late, "5xx", "5.4.5", &[], Endpoint, "Google: daily sending limit"),
    row(Late, "5xx", "5.7.28", &[], Endpoint, "Google: unusual rate of mail"),
    row(Late, "5xx", "", &["submissionquotaexceeded", "sending limit", "sending quota", "send quota", "daily limit", "daily quota", "day limit", "hourly limit", "hourly quota", "message limit", "relay limit", "rate limit", "ratelimit", "sending rate", "message rate", "outbound limit", "too many messages", "too many connections", "too many emails", "too much mail", "unusual rate", "throttl", "credits exceeded"], Endpoint, "Exchange submission, Google, cPanel/Exim, Amazon SES"),
    row(Rcpt, "552|550|554", "5.5.3", &[], Endpoint, "RFC 5321 4.5.3.1.10: too many recipients"),
    row(Rcpt, "5xx", "", &["too many recipients"], Endpoint, "RFC 5321 4.5.3.1.10"),

    // Authentication of the sender's domain.
    row(Late, "5xx", "5.7.7|5.7.20-27|5.7.29-32", &[], Endpoint, "RFC 7372, RFC 8601, RFC 7505: DKIM, SPF, reverse DNS, DMARC, null MX of the sender"),
    row(Late, "5xx", "", &["spf ", "spf:", "spf)", "spf-", "dkim", "dmarc", "spoof"], Endpoint, "policyd-spf, OpenDMARC, Mimecast anti-spoofing"),
    row(Late, "5xx", "", &["local policy", "policy violation", "policy restrictions", "policy reasons", "security policies", "security policy", "administrative prohibition", "administratively", "not accepted from this", "service unavailable"], Endpoint, "Proofpoint, GMX and IONOS, Mimecast, Exim, Postfix postscreen"),

    // This mailbox, for now.
    row(Late, "5xx", "5.2.2", &[], MailboxForNow, "RFC 3463: mailbox full"),
    row(Late, "5xx", "", &["receiving mail at a rate", "receiving mail too quickly"], MailboxForNow, "Google: 5.2.1"),
    row(Late, "5xx", "5.1.*|5.2.*|5.7.1|5.0.0|none", &["mailbox full", "mailbox is full", "over quota", "overquota", "quota exceeded", "exceeded quota", "exceeds quota", "out of storage", "inbox full", "not enough storage", "storage allocation"], MailboxForNow, "RFC 5321 4.2.3 (552), Dovecot, cPanel"),

    // This content.
    row(Late, "5xx", "5.3.4|5.2.3", &[], Content, "RFC 3463: too big for the system, or for the mailbox"),
    row(Data, "5xx", "", &["message size", "size limit", "message too large", "message is too large", "message too big", "message is too big", "too much mail data", "exceeds fixed limit", "maximum size"], Content, "RFC 1870, Postfix message_size_limit, Exim, Google"),
    row(Rcpt, "5xx", "5.6.7", &[], Mailbox, "RFC 6531: the address is beyond ASCII"),
    row(Data, "5xx", "5.6.*", &[], Content, "RFC 3463 X.6: content or media"),
    row(Data, "5xx", "", &["virus", "malware", "infected", "phishing", "eicar"], Content, "ClamAV, amavis, Mimecast: Virus Signature Detected"),
    row(Data, "5xx", "", &["attachment", "file type", "executable", "security issue"], Content, "Google 552 5.7.0, Exim, Barracuda"),
    row(Data, "5xx", "", &["message content", "for its content", "its content", "content rejected", "content examination", "content filter", "content restriction", "content policy", "because of content", "due to content", "prohibited content", "banned content", "blocked by content", "content not"], Content, "Postfix body_checks, Mimecast, Exchange content filter"),
    row(Data, "550|552|554|571", "", &["as spam", "spam message rejected", "spam content", "spam detected", "to be spam", "looks like spam", "contains spam", "probability of spam", "spam score", "spam level", "spamassassin", "- spam"], Content, "rspamd, amavis, SpamAssassin, Exchange: rejected as spam by content filtering"),

    // This mailbox, for good.
    row(Late, "5xx", "5.1.1", &[], Mailbox, "RFC 3463: no such mailbox; Postfix, Google, Proofpoint"),
    row(Late, "5xx", "5.1.10", &[], Mailbox, "Microsoft: RecipientNotFound; RFC 7505: null MX"),
    row(Rcpt, "5xx", "5.1.2", &[], Mailbox, "RFC 3463: no such domain"),
    row(Rcpt, "5xx", "5.1.3|5.1.4", &[], Mailbox, "RFC 3463: the address is malformed, or ambiguous"),
    row(Late, "5xx", "5.1.6", &[], Mailbox, "RFC 3463: moved without a new address"),
    row(Rcpt, "5xx", "5.1.0", &["address rejected", "user unknown", "unknown user", "recipient", "no such", "mailbox"], Mailbox, "Cisco IronPort: #5.1.0 Address rejected"),
    row(Late, "5xx", "5.2.1", &[], Mailbox, "RFC 3463: mailbox disabled; Google: inactive"),
    row(Late, "550", "5.4.1", &["recipient address rejected"], Mailbox, "Exchange Online: not in the directory (DBEB)"),
    row(Late, "550", "5.5.0", &["mailbox unavailable"], Mailbox, "Outlook.com: no such mailbox"),
    row(Rcpt, "551", "none|5.1.*|5.7.0", &[], Mailbox, "RFC 5321 3.4: user not local"),
    row(Rcpt, "553", "none|5.0.0|5.3.0", &["mailbox name not allowed", "mailbox name invalid", "invalid recipient", "recipient address", "address syntax", "syntax error", "malformed", "bad address", "invalid address"], Mailbox, "RFC 5321 4.2.3: mailbox name not allowed"),
    row(Rcpt, "550|551|553|554|571", "none|5.0.0|5.1.*|5.2.*|5.3.0|5.4.0|5.5.0|5.5.1", &["user unknown", "unknown user", "user is unknown", "no such user", "no such mailbox", "no such recipient", "no such address", "no such person", "no such local user", "no such account", "no mailbox here", "no mailbox by that name", "no account by that name"], Mailbox, "Exim, Sendmail, qmail, hMailServer"),
    row(Rcpt, "550|551|553|554|571", "none|5.0.0|5.1.*|5.2.*|5.3.0|5.4.0|5.5.0|5.5.1", &["user not found", "mailbox not found", "recipient not found", "account not found", "user does not exist", "user doesn't exist", "mailbox does not exist", "account does not exist", "recipient does not exist", "address does not exist", "not a known user", "not a valid user", "not a valid mailbox", "not a valid recipient", "unknown recipient", "recipient unknown", "recipient is unknown", "invalid recipient", "invalid mailbox", "unknown local part", "unknown or illegal alias", "address unknown", "unknown address", "not our customer"], Mailbox, "Mimecast: Invalid Recipient; Domino, Zimbra, Postfix"),
    row(Rcpt, "550", "none", &["unrouteable address", "unroutable address"], Mailbox, "Exim routers"),
    row(Rcpt, "550|554", "none|5.2.*|5.0.0", &["account disabled", "account is disabled", "account has been disabled", "mailbox disabled", "mailbox is disabled", "mailbox is inactive", "user inactive", "inactive user", "user disabled", "user is disabled", "account is inactive", "account that you tried to reach is disabled"], Mailbox, "RFC 5321 4.2.3, Zimbra, Yahoo"),
    row(Rcpt, "550", "none|5.2.0", &["mailbox unavailable"], Mailbox, "RFC 5321 4.2.3: 550 of RCPT"),
    row(Rcpt, "550|554", "none", &["empf?nger unbekannt", "empfaenger unbekannt", "benutzer unbekannt", "unbekannter empf", "unbekannter benutzer", "adresse unbekannt", "utilisateur inconnu", "destinataire inconnu", "adresse inconnue", "usuario desconocido", "destinatario desconocido", "utente sconosciuto", "gebruiker onbekend", "onbekende gebruiker"], Mailbox, "servers that speak German, French, Spanish, Italian, Dutch"),

    // Known, and the same as the default: listed so that they are not added above.
    row(Late, "5xx", "5.3.*", &[], Endpoint, "RFC 3463 X.3: the mail system itself"),
    row(Late, "5xx", "5.4.*", &[], Endpoint, "RFC 3463 X.4: network, routing, loops"),
    row(Late, "5xx", "5.5.*", &[], Endpoint, "RFC 3463 X.5: protocol"),
    row(Late, "5xx", "5.7.0", &[], Endpoint, "RFC 3463: security; Proofpoint: Local Policy Violation"),
    row(Late, "5xx", "5.7.1", &[], Endpoint, "RFC 3463: not authorized; nobody says whose"),
    row(Late, "5xx", "5.7.*", &[], Endpoint, "RFC 3463 X.7: security or policy"),
    row(Late, "541|571", "", &[], Endpoint, "servers that block by reputation"),
    row(Late, "554", "none", &[], Endpoint, "RFC 5321 4.2.3: transaction failed"),
    row(Late, "550", "none", &[], Endpoint, "RFC 5321 4.2.3: or rejected for policy reasons"),
    row(Any,  "556", "", &[], Endpoint, "RFC 7504: the server takes no mail; of a recipient 5.1.10 says so above"),
];

#[cfg(test)]
mod tests;
