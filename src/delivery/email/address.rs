//! Reads mail addresses, and writes them so that any server accepts them: ASCII only, domains as `xn--…`.

use std::fmt;

use lettre::address::Address;
use lettre::message::Mailbox;

/// Why a text is not used as an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    Invalid,
    /// Only servers with SMTPUTF8 accept such a mailbox, and no relay on the way is known to have it.
    LocalPart,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "is no mail address such as sales@contoso.example",
            Self::LocalPart => "is not ASCII before the @; many mail servers accept no such address",
        })
    }
}

/// Parses `sales@contoso.example` or `Sales <sales@contoso.example>`. A domain beyond ASCII becomes `xn--…`.
///
/// # Errors
/// If it is no address, or its local part is not ASCII.
pub fn mailbox(text: &str) -> Result<Mailbox, AddressError> {
    let Mailbox { name, email } = text.trim().parse().map_err(|_| AddressError::Invalid)?;
    if email.user().contains(char::is_control) {
        return Err(AddressError::Invalid);
    }
    if !email.user().is_ascii() {
        return Err(AddressError::LocalPart);
    }
    let mut mailbox = Mailbox { name, email };
    make_ascii(&mut mailbox);
    if mailbox.email.to_string().is_ascii() { Ok(mailbox) } else { Err(AddressError::Invalid) }
}

/// Writes the domain as `xn--…`. One that is no domain stays as it is.
pub(super) fn make_ascii(mailbox: &mut Mailbox) {
    if !mailbox.email.domain().is_ascii()
        && let Ok(url::Host::Domain(domain)) = url::Host::parse(mailbox.email.domain())
        && let Ok(address) = Address::new(mailbox.email.user(), domain)
    {
        mailbox.email = address;
    }
}

/// What somebody wrote as a customer's contact.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contact {
    pub addresses: Vec<Address>,
    /// The parts that are no usable address, each with the reason.
    pub unusable: Vec<(String, AddressError)>,
}

impl Contact {
    /// Parses one or several addresses, separated by `;` or `,`: `Jan <jan@contoso.example>; it@contoso.example`,
    /// `mailto:jan@contoso.example`. Never fails: a contact may also be a name for people.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut contact = Self::default();
        for part in parts(text) {
            // Addresses may also stand beside each other, with blanks between them.
            let words: Vec<_> = part.split_whitespace().collect();
            let several = words.len() > 1 && words.iter().all(|word| address(word).is_ok());
            for part in if several { words } else { vec![part] } {
                match address(part) {
                    Ok(address) => contact.add(address),
                    Err(error) => contact.unusable.push((part.to_owned(), error)),
                }
            }
        }
        contact
    }

    /// The addresses in one line, as a delivery stores them; `None` if there is none.
    #[must_use]
    pub fn recipient(&self) -> Option<String> {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        (!addresses.is_empty()).then(|| addresses.join(", "))
    }

    fn add(&mut self, new: Address) {
        if !self.addresses.iter().any(|known| is_same(known, &new)) {
            self.addresses.push(new);
        }
    }
}

/// True if both are one mailbox: hardly a server distinguishes upper and lower case.
#[must_use]
pub fn is_same(one: &Address, other: &Address) -> bool {
    one.to_string().to_lowercase() == other.to_string().to_lowercase()
}

/// An address, also as a link: `mailto:jan@contoso.example?subject=…`.
fn address(text: &str) -> Result<Address, AddressError> {
    let (before, link) = text.split_once('<').map_or(("", text), |(before, link)| (before, link));
    let link = link.trim();
    let is_link = link.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("mailto:"));
    if !is_link {
        return Ok(mailbox(text)?.email);
    }
    let target = link[7..].split(['?', '>']).next().unwrap_or_default();
    if before.contains('@') { Err(AddressError::Invalid) } else { Ok(mailbox(target)?.email) }
}

/// The parts between separators outside of quotes, without blanks around them.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    // A quote that is never closed is an ordinary character.
    let has_pairs = text.matches('"').count().is_multiple_of(2);
    let mut quoted = false;
    let separates = move |c: char| {
        quoted ^= c == '"' && has_pairs;
        !quoted && matches!(c, ';' | ',')
    };
    text.split(separates).map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_beyond_ascii_becomes_xn_and_a_local_part_beyond_ascii_is_refused() {
        let read = |text: &str| mailbox(text).map(|it| it.email.to_string());
        for (text, expected) in [
            ("poststelle@schule-köln.example", "poststelle@xn--schule-kln-lcb.example"),
            ("Büro <vetting@büro.example>", "vetting@xn--bro-hoa.example"),
            ("a@faß.example", "a@xn--fa-hia.example"),
            ("a@學校.example", "a@xn--n9so80a.example"),
            ("Sales@Contoso.example", "Sales@Contoso.example"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["jürgen@contoso.example", "Jürgen <jürgen@büro.example>", "學@contoso.example"] {
            assert_eq!(read(text), Err(AddressError::LocalPart), "{text}");
        }
        for text in
            ["", "Jan", "jan@", "@x.example", "a@１.２.３.４", "a@b@c.example", "\"a\r\nb\"@x.example", "a@ü b.example"]
        {
            assert_eq!(read(text), Err(AddressError::Invalid), "{text}");
        }
        assert_eq!(mailbox("Büro <a@b.example>").unwrap().name.as_deref(), Some("Büro"));
    }

    #[test]
    fn a_contact_holds_any_number_of_addresses_and_each_other_part_is_named() {
        let read = |text: &str| {
            let contact = Contact::parse(text);
            let unusable: Vec<_> = contact.unusable.iter().map(|(part, _)| part.as_str()).collect();
            (contact.recipient().unwrap_or_default(), unusable.join("|"))
        };
        for (text, addresses, unusable) in [
            ("", "", ""),
            ("a@x.example; b@y.example", "a@x.example, b@y.example", ""),
            ("a@x.example,b@y.example;", "a@x.example, b@y.example", ""),
            ("a@x.example  b@y.example", "a@x.example, b@y.example", ""),
            ("mailto:c@z.example", "c@z.example", ""),
            ("MAILTO:c@z.example?subject=Hi", "c@z.example", ""),
            ("Jan <mailto:c@z.example>; <d@z.example>", "c@z.example, d@z.example", ""),
            ("Jan Meier <jan@x.example>", "jan@x.example", ""),
            ("\"Meier, Jan\" <jan@x.example>", "jan@x.example", ""),
            ("Meier, Jan <jan@x.example>", "jan@x.example", "Meier"),
            ("a@x.example; A@X.example", "a@x.example", ""),
            ("a@x.example; +49 221 12345; jürgen@y.example", "a@x.example", "+49 221 12345|jürgen@y.example"),
            ("poststelle@schule-köln.example", "poststelle@xn--schule-kln-lcb.example", ""),
            ("Jan \"the boss", "", "Jan \"the boss"),
        ] {
            assert_eq!(read(text), (addresses.to_owned(), unusable.to_owned()), "{text}");
        }
    }
}
