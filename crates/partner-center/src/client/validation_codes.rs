//! Validation codes: which customers may submit `GovernmentCommunityCloud`, and how often.

use serde::Serialize;

use super::PartnerCenter;
use crate::error::Error;
use crate::http::join_segments;
use crate::json::{Json, Object};
use crate::wire::{ParseError, WORD_MAX_CHARS};
use vetwatch_core::text::short_line;

const BODY_MAX_BYTES: usize = 1024 * 1024;

/// A validation code, as Partner Center shows it. `None` for what is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidationCode {
    pub partner_id: Option<String>,
    pub organization_name: Option<String>,
    /// The code that `submit` takes. A string, even if it looks like a number.
    pub validation_id: String,
    pub max_creates: Option<i64>,
    pub remaining_creates: Option<i64>,
}

impl PartnerCenter {
    /// Fetches the partner's validation codes, in Partner Center's order.
    ///
    /// # Errors
    /// If there is no response or it was not understood.
    pub async fn validation_codes(&self) -> Result<Vec<ValidationCode>, Error> {
        // `all` takes the place of a customer's id. `/v1/validationcodes` does not exist.
        let url = join_segments(&self.api_url, &["v1", "customers", "all", "validations"]);
        let call = self.get(url, None, BODY_MAX_BYTES, None).await?;
        read(&call.reply.body).map_err(|why| call.unreadable(why))
    }
}

/// A bare array is documented; a collection and a single object are accepted as well.
pub(crate) fn read(body: &[u8]) -> Result<Vec<ValidationCode>, ParseError> {
    let codes = |items: &[Json]| {
        let code = |item: &Json| item.as_object().ok_or(ParseError("a code that is not an object")).and_then(code);
        items.iter().map(code).collect()
    };
    match Json::parse(body).ok_or(ParseError("the body is not JSON"))? {
        Json::List(items) => codes(&items),
        Json::Object(object) => match object.get("items")? {
            Some(Json::List(items)) => codes(items),
            _ => Ok(vec![code(&object)?]),
        },
        _ => Err(ParseError("no list of validation codes")),
    }
}

fn code(object: &Object) -> Result<ValidationCode, ParseError> {
    let text = |key| -> Result<Option<String>, ParseError> {
        let Some(Json::Text(text) | Json::Number(text)) = object.get(key)? else { return Ok(None) };
        Ok(Some(short_line(text, WORD_MAX_CHARS)).filter(|text| !text.is_empty()))
    };
    let number = |key| text(key).map(|number| number.and_then(|number| number.parse().ok()));
    Ok(ValidationCode {
        partner_id: text("partnerId")?,
        organization_name: text("organizationName")?,
        validation_id: text("validationId")?.ok_or(ParseError("a validation code without its id"))?,
        max_creates: number("maxCreates")?,
        remaining_creates: number("remainingCreates")?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn validation_codes_are_read_as_documented_and_with_what_may_be_missing() {
        let documented =
            br#"[{"partnerId":"p-1","organizationName":"Contoso, Inc.","validationId":"012345","maxCreates":5,
            "remainingCreates":4,"eTag":"W/\"datetime'2018-10-10T18%3A49%3A58.727348Z'\""}]"#;
        let code = ValidationCode {
            partner_id: Some("p-1".into()),
            organization_name: Some("Contoso, Inc.".into()),
            validation_id: "012345".into(),
            max_creates: Some(5),
            remaining_creates: Some(4),
        };
        assert_eq!(read(documented).unwrap(), [code]);
        for (body, ids) in [
            ("[]", vec![]),
            (r#"[{"ValidationId":12345,"MaxCreates":"5","other":{}}]"#, vec!["12345"]),
            (r#"{"totalCount":2,"items":[{"validationId":"1"},{"validationId":"2"}]}"#, vec!["1", "2"]),
            (r#"{"validationId":"1","remainingCreates":null}"#, vec!["1"]),
        ] {
            let read = read(body.as_bytes()).unwrap();
            assert_eq!(read.iter().map(|code| code.validation_id.as_str()).collect::<Vec<_>>(), ids, "{body}");
        }
        for body in ["", "null", "\"1\"", "{}", "[1]", r#"[{"maxCreates":5}]"#, "<html>"] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
