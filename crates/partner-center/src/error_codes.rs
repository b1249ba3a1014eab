//! The codes of Entra ID and Partner Center: what they mean and what a person does about them. The tables of
//! `docs/partner-center.md` are made from these.

use std::fmt;

use crate::api_error::{ApiError, MFA_CODES};

/// The login server's codes, and Partner Center's that concern the credential or its rights.
const MEANINGS: &[(&str, &str)] = &[
    ("AADSTS7000215", "the client secret is wrong: the file must hold the secret's value, not its id"),
    ("AADSTS7000222", "the client secret has expired: make a new one in Entra ID, replace the file"),
    ("AADSTS7000216", "no client secret was sent: is the file empty?"),
    ("AADSTS7000218", "no client secret was sent: is the file empty?"),
    ("AADSTS700016", "this tenant does not know the application: check `client_id` and `tenant`"),
    (
        "AADSTS90002",
        "there is no such tenant in this cloud: check `tenant` and `cloud` (of a mail server: `login_url`)",
    ),
    (
        "AADSTS900023",
        "there is no such tenant in this cloud: check `tenant` and `cloud` (of a mail server: `login_url`)",
    ),
    ("AADSTS7000112", "the application is disabled: enable it in Entra ID, under enterprise applications"),
    (
        "AADSTS500011",
        "this tenant does not know what the token is for: give the application its API permission (for Partner Center; \
         to send mail, for Office 365 Exchange Online)",
    ),
    ("AADSTS700025", "the application is a public one and may send no secret: register it as a web app"),
    (
        "AADSTS700027",
        "the certificate was not accepted: is it uploaded to the application (certificates & secrets), still valid, \
         and the one of the private key?",
    ),
    ("AADSTS700021", "the assertion is not for this application: check `client_id`"),
    ("AADSTS700023", "the assertion is not for this login server: check `tenant`, `cloud` and `login_url`"),
    (
        "AADSTS700024",
        "the assertion is not valid now: compare this machine's clock; does the platform renew its token?",
    ),
    ("AADSTS700211", "no federated credential of the application has this issuer: compare it in Entra ID"),
    ("AADSTS700212", "no federated credential of the application has this audience: compare it in Entra ID"),
    ("AADSTS700213", "no federated credential of the application has this subject: compare it in Entra ID"),
    (
        "AADSTS70021",
        "no federated credential of the application matches the token: compare issuer, subject and audience",
    ),
    ("AADSTS5000224", "the cloud is another one: check `cloud` (of a mail server: `login_url` and `scope`)"),
    ("AADSTS700082", "the refresh token was not used for 90 days: `vetwatch login PARTNER` signs in again"),
    ("AADSTS70008", "the refresh token has expired: `vetwatch login PARTNER` signs in again"),
    ("AADSTS70043", "the refresh token has expired by a sign-in policy: `vetwatch login PARTNER` signs in again"),
    (
        "AADSTS50173",
        "the sign-in was revoked (a new password, or an administrator): `vetwatch login PARTNER` signs in again",
    ),
    ("AADSTS70000", "the refresh token is not valid (any more): `vetwatch login PARTNER` signs in again"),
    ("AADSTS9002313", "the refresh token is spoilt: `vetwatch login PARTNER` signs in again"),
    ("AADSTS65001", "nobody consented: an administrator grants the application's permissions in Entra ID"),
    ("AADSTS65004", "the person did not consent: sign in again and accept, or let an administrator consent"),
    ("AADSTS50105", "this user may not use the application: assign the user to it in Entra ID"),
    ("AADSTS50034", "there is no such user in this tenant: sign in as a user of `tenant`"),
    ("AADSTS50055", "the user's password has expired: set a new one, then `vetwatch login PARTNER`"),
    ("AADSTS50057", "the user is disabled: enable the account, or sign in as another user"),
    ("AADSTS50053", "the user is locked, or signs in from where it may not: look at the sign-in log in Entra ID"),
    ("AADSTS53000", "Conditional Access wants a compliant device: make an exception for the application in Entra ID"),
    ("AADSTS53001", "Conditional Access wants a joined device: make an exception for the application in Entra ID"),
    ("AADSTS53003", "Conditional Access blocks the application: make an exception for it in Entra ID"),
    ("AADSTS530003", "Conditional Access wants a managed device: make an exception for the application in Entra ID"),
    (
        "AADSTS530032",
        "a security policy of the tenant blocks the sign-in: make an exception for the application in Entra ID",
    ),
    ("AADSTS50097", "Conditional Access wants a known device: make an exception for the application in Entra ID"),
    (
        "AADSTS50011",
        "the application lacks the redirect URI: add http://localhost to it in Entra ID (Authentication, platform Web)",
    ),
    ("AADSTS54005", "the sign-in's code was used before: `vetwatch login PARTNER --browser` begins anew"),
    ("AADSTS501481", "the sign-in's code belongs to another sign-in: `vetwatch login PARTNER --browser` begins anew"),
    ("AADSTS50199", "the sign-in was not confirmed: do it again, and confirm"),
    ("AADSTS70016", "nobody has typed the code yet"),
    ("AADSTS70020", "the code has expired: do it again, a little faster"),
    ("900420", "the token is for another service: check that `cloud` and `api_url` belong together"),
    ("2032", "Partner Center does not let this identity do that: give it the role (Admin agent, for users)"),
    ("900150", "the role lacks the right: give the application or the user the Admin agent role in Partner Center"),
    ("900308", "the role lacks the right: give the application or the user the Admin agent role in Partner Center"),
    ("900149", "the partner's programme is not active: look at the account in Partner Center"),
    ("800039", "the reseller programme is not active: look at the account in Partner Center"),
    ("900124", "the Microsoft Partner Agreement is not accepted: a global administrator does it in Partner Center"),
    ("900309", "Conditional Access blocks us: make an exception for the application in Entra ID"),
    ("900329", "this needs a user: `[partner.user_credential]`, and `vetwatch login PARTNER`"),
    ("900416", "Partner Center has locked this customer"),
];

/// Rejected submissions, by status and code. Microsoft documents no code for a submission at the wrong time; these are
/// the general ones.
const SUBMISSIONS: &[(u16, &str, &str)] = &[
    (400, "3000", VALUE),
    (400, "800002", VALUE),
    (400, "900126", VALUE),
    (400, "900118", "Partner Center does not take the customer's id for one: compare it in `vetwatch customers list`"),
    (403, "20002", "the customer has no relationship with this partner (any more): invite it in Partner Center first"),
    (404, "1000", UNKNOWN),
    (404, "60003", UNKNOWN),
];

const VALUE: &str = "a value was not accepted: check the segment, the website, or the validation code (`vetwatch \
                     validation-codes` shows those there are)";
const UNKNOWN: &str = "Partner Center does not know the customer: compare its id in `vetwatch customers list`";
const CONFLICT: &str = "it conflicts with how the customer stands: in review or approved already, Education beside \
                        GovernmentCommunityCloud, or all three requests used; `vetwatch poll CUSTOMER` and Partner \
                        Center show which";
const UNDOCUMENTED: &str = "Microsoft does not document what this means: its words, and the correlation id for its \
                            support, are all there is";

pub(crate) fn of_submission(refusal: &ApiError) -> Option<&'static str> {
    let (status, code) = (refusal.status(), refusal.code().unwrap_or_default());
    let known =
        SUBMISSIONS.iter().find(|(of, known, _)| (*of, *known) == (status, code)).map(|(_, _, meaning)| *meaning);
    known.or(match status {
        0 => None,
        409 => Some(CONFLICT),
        _ => Some(UNDOCUMENTED),
    })
}

const MFA: &str = "the user signed in without a second factor, which Partner Center demands of users: `vetwatch login \
                   PARTNER` signs in again, with it; where none was asked for, require it of this user in Entra ID";
const NO_USER: &str = "`vetwatch login PARTNER` signs in";
const UNREGISTERED: &str = "a fresh token is refused: is the application registered in Partner Center (account \
                            settings, app management), as a web app, in this tenant and cloud? Of a user: with a \
                            second factor, and with a role in Partner Center?";

/// Displays `; ` and what to do, or nothing.
pub(crate) struct Hint(Option<&'static str>);

impl Hint {
    pub(crate) fn on(refusal: &ApiError) -> Self {
        if refusal.is_missing_mfa() {
            return Self(Some(MFA));
        }
        let code = refusal.code().unwrap_or_default();
        Self(MEANINGS.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning))
    }

    pub(crate) fn on_credential(refusal: &ApiError) -> Self {
        let Self(known) = Self::on(refusal);
        let otherwise = match refusal.status() {
            0 => Some(NO_USER),
            _ if refusal.is_from_login() => None,
            _ => Some(UNREGISTERED),
        };
        Self(known.or(otherwise))
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

/// The table of the login's codes, and of those that concern the credential or its rights, in Markdown.
#[must_use]
pub fn table() -> String {
    let known = MEANINGS.iter().map(|(code, meaning)| (format!("`{code}`"), *meaning));
    let mfa = MFA_CODES.iter().map(|code| (format!("`{code}`"), MFA));
    let said = ("a 401 that says \"MFA required\"".to_owned(), MFA);
    markdown("code", known.chain(mfa).chain([said]))
}

/// The table of the codes of submissions, in Markdown.
#[must_use]
pub fn submission_table() -> String {
    let known = SUBMISSIONS.iter().map(|(status, code, meaning)| (format!("{status} `{code}`"), *meaning));
    let others = [("409 with any code".to_owned(), CONFLICT), ("any other".to_owned(), UNDOCUMENTED)];
    markdown("status and code", known.chain(others))
}

/// One row for each meaning.
fn markdown(head: &str, codes: impl Iterator<Item = (String, &'static str)>) -> String {
    let mut rows: Vec<(Vec<String>, &str)> = Vec::new();
    for (code, meaning) in codes {
        match rows.iter_mut().find(|(_, known)| *known == meaning) {
            Some((codes, _)) => codes.push(code),
            None => rows.push((vec![code], meaning)),
        }
    }
    let row = |(codes, meaning): &(Vec<String>, &str)| format!("| {} | {meaning} |\n", codes.join(", "));
    let rows: String = rows.iter().map(row).collect();
    format!("| {head} | meaning, and what to do |\n| --- | --- |\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_meaning() {
        for (n, (code, _)) in MEANINGS.iter().enumerate() {
            assert!(MEANINGS.iter().skip(n + 1).all(|(other, _)| other != code), "{code} twice");
        }
    }
}
