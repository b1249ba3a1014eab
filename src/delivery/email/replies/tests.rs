use super::Blame::{Content, Endpoint, Mailbox, MailboxForNow};
use super::*;

fn blame_of(step: Step, text: &str) -> Blame {
    let code = text.get(..3).and_then(|code| code.parse().ok()).expect("a reply begins with its code");
    blame(step, &Reply { code, text: text.to_owned() })
}

#[rustfmt::skip]
const RCPT: &[(&str, Blame)] = &[
    // About this mailbox.
    ("550 5.1.1 <gone@contoso.example>: Recipient address rejected: User unknown in virtual mailbox table", Mailbox),
    ("550 5.1.1 <a@b.example>: Recipient address rejected: User unknown in relay recipient table", Mailbox),
    ("550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email address for typos or unnecessary spaces.", Mailbox),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient a@b.example not found by SMTP address lookup", Mailbox),
    ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [AM0EUR02FT012.eop-EUR02.prod.protection.outlook.com]", Mailbox),
    ("550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302). [DB5EUR03FT023]", Mailbox),
    ("550 5.2.1 The email account that you tried to reach is disabled.", Mailbox),
    ("550 5.1.6 recipient no longer on server", Mailbox),
    ("550 5.1.2 bad destination system address", Mailbox),
    ("501 5.1.3 Bad recipient address syntax", Mailbox),
    ("553 5.1.3 User address required", Mailbox),
    ("504 5.5.2 <it>: Recipient address rejected: need fully-qualified address", Mailbox),
    ("553 5.6.7 not sent: the server takes no address beyond ASCII", Mailbox),
    ("551 User not local; please try <forward-path>", Mailbox),
    ("550 #5.1.0 Address rejected.", Mailbox),
    ("550 sorry, no mailbox here by that name. (#5.1.1)", Mailbox),
    ("550 Unrouteable address", Mailbox),
    ("550 No Such User Here", Mailbox),
    ("550 no such user here", Mailbox),
    ("550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550 [x]", Mailbox),
    ("550 Requested action not taken: mailbox unavailable", Mailbox),
    ("550 Empf?nger unbekannt", Mailbox),
    ("550 5.1.1 Empf?nger [31munbekannt", Mailbox),
    ("550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required; Delivery restriction check failed", Mailbox),
    ("550 5.7.124 RESOLVER.RST.SenderNotInGroupsAllowedSendersList; not authorized", Mailbox),
    // For now.
    ("552 5.2.2 The email account that you tried to reach is over quota.", MailboxForNow),
    ("550 Mailbox full", MailboxForNow),
    ("450 4.2.1 The user you are trying to contact is receiving mail too quickly", MailboxForNow),
    ("550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages", MailboxForNow),
    ("452 4.2.2 mailbox full", MailboxForNow),
    ("451 4.7.1 Greylisting in action, please come back later", MailboxForNow),
    ("450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/", MailboxForNow),
    // About us, or not known.
    ("504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", Endpoint),
    ("504 need fully-qualified hostname", Endpoint),
    ("550 5.1.8 <vetwatch@contoso.example>: Sender address rejected: Domain not found", Endpoint),
    ("553 5.1.8 vetwatch@contoso.example... Domain of sender address vetwatch@contoso.example does not exist", Endpoint),
    ("553 5.7.1 <v@contoso.example>: Sender address rejected: not owned by user watch", Endpoint),
    ("550 5.1.1 <v@contoso.example>: Sender address rejected: User unknown in virtual mailbox table", Endpoint),
    ("550 5.1.0 <v@contoso.example>: Sender address rejected: User unknown in relay recipient table", Endpoint),
    ("550 Verification failed for <v@contoso.example> No Such User Here Sender verify failed", Endpoint),
    ("554 5.7.1 <a@b.example>: Relay access denied", Endpoint),
    ("550 5.7.1 Unable to relay", Endpoint),
    ("550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", Endpoint),
    ("550 5.7.1 Invalid credentials for relay [192.0.2.1]. The IP address you've registered doesn't match", Endpoint),
    ("550 relay not permitted", Endpoint),
    ("551 we do not relay", Endpoint),
    ("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", Endpoint),
    ("530 5.7.57 Client not authenticated to send mail", Endpoint),
    ("530 5.7.0 Authentication Required", Endpoint),
    ("535 5.7.8 Error: authentication failed", Endpoint),
    ("550 5.7.68 TenantInboundAttribution; Direct Send not allowed for this organization from unauthorized sources", Endpoint),
    ("550 5.7.606 Access denied, banned sending IP [192.0.2.1]. To request removal visit https://sender.office.com/", Endpoint),
    ("550 5.7.649 Access denied, banned sending IP", Endpoint),
    ("550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant", Endpoint),
    ("550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP", Endpoint),
    ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.1", Endpoint),
    ("554 5.7.1 <mail.contoso.example[192.0.2.1]>: Client host rejected: Access denied", Endpoint),
    ("550 5.7.25 [192.0.2.1] The IP address sending this message does not have a PTR record setup", Endpoint),
    ("550 5.7.1 <a@b.example>: Recipient address rejected: Access denied", Endpoint),
    ("550 5.7.23 <a@b.example>: Recipient address rejected: Message rejected due to: SPF fail - not authorized", Endpoint),
    ("550 Rejected by header based blocked sender [x] - https://community.mimecast.com/docs/DOC-1369#550", Endpoint),
    ("550 csi.mimecast.org Poor Reputation Sender. - https://community.mimecast.com", Endpoint),
    ("550 Administrative prohibition - envelope blocked", Endpoint),
    ("550 Requested action not taken: mailbox unavailable Reject due to policy restrictions. For explanation visit https://postmaster.1und1.de", Endpoint),
    ("554 5.7.1 blocked - see https://support.proofpoint.com/dnsbl-lookup.cgi?ip=192.0.2.1", Endpoint),
    ("550 5.7.0 Local Policy Violation", Endpoint),
    ("552 5.5.3 Too many recipients", Endpoint),
    ("503 5.5.1 bad sequence of commands", Endpoint),
    ("500 5.5.2 what?", Endpoint),
    ("550 5.3.2 system not accepting network messages", Endpoint),
    ("550", Endpoint),
    ("550 ", Endpoint),
    ("550 rejected", Endpoint),
    ("554 5.7.1 Zugriff verweigert", Endpoint),
    ("599 whatever", Endpoint),
    ("450 4.7.1 Client host rejected: cannot find your hostname", Endpoint),
    ("421 4.3.2 shutting down", Endpoint),
    ("450 4.2.1 Peak SMTP relay limit exceeded for this customer.", Endpoint),
    ("452 4.5.3 too many recipients", Endpoint),
    // Words in an address are ignored.
    ("550 5.7.1 <user-unknown@contoso.example>: no", Endpoint),
    ("550 5.1.1 <dkim@contoso.example>: no such user", Mailbox),
];

#[rustfmt::skip]
const DOT: &[(&str, Blame)] = &[
    // About this content.
    ("552 5.3.4 Message size exceeds fixed limit", Content),
    ("552 5.2.3 Your message exceeded Google's message size limits.", Content),
    ("552 message too large", Content),
    ("554 5.6.0 Corrupt message content", Content),
    ("554 5.7.1 rejected for its content", Content),
    ("550 5.7.1 message content rejected", Content),
    ("550 5.7.1 Message rejected as spam by Content Filtering.", Content),
    ("554 5.7.1 Spam message rejected", Content),
    ("554 5.7.0 Reject, id=12345-01 - spam", Content),
    ("554 Virus Signature Detected - https://community.mimecast.com", Content),
    ("550 This message contains a virus (Eicar-Test-Signature)", Content),
    ("552 5.7.0 This message was blocked because its content presents a potential security issue.", Content),
    ("554 Message bounced due to Content Examination Policy", Content),
    // About this mailbox, after DATA.
    ("550 5.1.1 User unknown", Mailbox),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound", Mailbox),
    ("552 5.2.2 mailbox full", MailboxForNow),
    ("554 5.2.121 RecipientRateLimitExceeded", MailboxForNow),
    // About us, or not known.
    ("550 5.4.5 Daily user sending limit exceeded. For more information on Gmail", Endpoint),
    ("550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients (AS780090)", Endpoint),
    ("550 5.1.8 Access denied, bad outbound sender. AS(42003)", Endpoint),
    ("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message", Endpoint),
    ("554 5.2.252 SendAsDenied; watch@contoso.example not allowed to send as vetwatch@contoso.example", Endpoint),
    ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", Endpoint),
    ("550 5.7.501 Service unavailable. Spam abuse detected from this tenant", Endpoint),
    ("550 5.7.705 Access denied, tenant has exceeded threshold", Endpoint),
    ("550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains", Endpoint),
    ("550 5.7.233 Your message can't be sent because your tenant exceeded its daily limit", Endpoint),
    ("550 5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all senders to authenticate with either SPF or DKIM.", Endpoint),
    ("550 5.7.27 This mail has been blocked because SPF does not pass", Endpoint),
    ("550 5.7.509 Access denied, sending domain contoso.example does not pass DMARC verification", Endpoint),
    ("550 5.7.1 Our system has detected an unusual rate of unsolicited mail originating from your IP address.", Endpoint),
    ("550 5.7.28 Our system has detected an unusual rate of unsolicited mail", Endpoint),
    ("550 5.7.1 likely suspicious due to the very low reputation of the sending domain", Endpoint),
    ("550 5.7.0 Local Policy Violation", Endpoint),
    ("550 Anti-Spoofing policy - Inbound not allowed", Endpoint),
    ("554 Email rejected due to security policies - https://community.mimecast.com", Endpoint),
    ("554 Message rejected: Email address is not verified.", Endpoint),
    ("550 The from address does not match a verified Sender Identity.", Endpoint),
    ("550 Domain contoso.example has exceeded the max emails per hour (100/100 (100%)) allowed. Hourly limit", Endpoint),
    ("554 5.7.1 no", Endpoint),
    ("554 Transaction failed", Endpoint),
    ("550 Nachricht abgelehnt", Endpoint),
    ("550 5.5.0 no", Endpoint),
    ("503 5.5.1 no valid recipients", Endpoint),
    ("535 5.7.3 Authentication unsuccessful", Endpoint),
    ("571 Delivery not authorized, message refused", Endpoint),
    ("451 4.3.0 later", Endpoint),
    ("550 4.2.1 contradicts itself", Endpoint),
];

#[test]
fn each_reply_is_the_trouble_of_whoever_it_is_about() {
    let each = [(Step::Recipients, RCPT), (Step::Content, DOT)];
    let each = each.iter().flat_map(|(step, replies)| replies.iter().map(|(text, expected)| (*step, *text, *expected)));
    let wrong: Vec<_> = each.filter(|(step, text, expected)| blame_of(*step, text) != *expected).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn before_there_is_a_recipient_nothing_is_a_recipients_or_a_messages_trouble() {
    let steps = [Step::Greeting, Step::Starttls, Step::Login, Step::Sender];
    for (text, _) in RCPT.iter().chain(DOT) {
        for step in steps {
            assert_eq!(blame_of(step, text), Endpoint, "{step:?}: {text}");
        }
    }
}

#[test]
fn the_table_is_well_formed_and_names_its_sources() {
    assert!(ROWS.len() >= 60, "{} rows", ROWS.len());
    for row in ROWS {
        assert!(!row.source.is_empty(), "{row:?}");
        assert!(row.words.iter().all(|words| **words == words.to_ascii_lowercase() && !words.is_empty()), "{row:?}");
        assert!(row.code.split('|').all(|code| code.len() == 3 && code.starts_with(['4', '5'])), "{row:?}");
        let is_status = |status: &str| status == "none" || status.split('.').count() == 3;
        assert!(row.status.is_empty() || row.status.split('|').all(is_status), "{row:?}");
        // A row that ends a recipient or a message needs more than a code.
        let ends = matches!(row.blame, Mailbox | Content);
        assert!(!ends || !row.words.is_empty() || !(row.status.is_empty() || row.status.contains("5.7.*")), "{row:?}");
    }
}

#[test]
fn an_enhanced_status_is_found_where_servers_put_it() {
    for (text, expected) in [
        ("550 5.1.1 no", Some("5.1.1")),
        ("550 5.7.606 no", Some("5.7.606")),
        ("550 5.1.1", Some("5.1.1")),
        ("550 5.1.1: no", Some("5.1.1")),
        ("550 [5.1.1] no", Some("5.1.1")),
        ("550 #5.1.0 no", Some("5.1.0")),
        ("550 sorry (#5.1.1)", Some("5.1.1")),
        ("550 no 5.1.1", None),
        ("550 5.1.1.1 no", None),
        ("550 2.0.0 no", None),
        ("550 5.1 no", None),
        ("550 5..1 no", None),
        ("550", None),
        ("", None),
    ] {
        assert_eq!(status(text), expected, "{text}");
    }
}
