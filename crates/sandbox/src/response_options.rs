//! Options for response bodies, pagination and transport. An omitted field keeps the default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration_serde;

/// How a customer's qualifications are written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BodyOptions {
    pub shape: Option<Shape>,
    pub keys: Option<Keys>,
    /// Spelling of qualification names and statuses.
    pub words: Option<Words>,
    /// Defaults to the sample of the qualification and status.
    pub date: Option<DateFormat>,
    pub date_name: Option<DateName>,
    /// Seconds added to each date, as if another program wrote it; may be negative.
    pub date_shift: i64,
    /// Omits every status.
    pub no_status: bool,
    /// How a missing field is written.
    pub absent: Option<Absent>,
    /// Adds undocumented fields to entries.
    pub unknown_fields: bool,
    /// The response for a customer without entries. Defaults to an empty list of the shape.
    pub unqualified: Option<Unqualified>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `[{…}]`
    #[default]
    Array,
    /// `{"qualifications":[{…}]}`
    Wrapper,
    /// `{…}` if there is exactly one entry; otherwise an array.
    Object,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    #[default]
    Camel,
    Pascal,
    Lower,
    Upper,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Words {
    /// `GovernmentCommunityCloud`, `InReview`
    #[default]
    Documented,
    /// `governmentcommunitycloud`, `inreview`
    Lower,
    Upper,
    /// `government_community_cloud`, `in_review`
    Snake,
    /// `gOvErNmEnT…`
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DateFormat {
    /// `2020-12-03T10:37:38.885Z`
    Millis,
    /// `2020-12-04T20:54:24Z`
    Seconds,
    /// `2021-05-06T19:59:56.6832021+00:00`
    Ticks,
    /// `2021-05-06T19:59:56.6832021Z`
    TicksZ,
    /// `2021-07-14T18:02:00`
    NoOffset,
    /// `2020-12-03T12:37:38.885+02:00`
    Offset,
    /// `07/09/2020: 00:00:00`, the month first
    Preview,
    /// `09/07/2020: 00:00:00`, the day first
    PreviewDayFirst,
    /// `2020-12-03`
    DateOnly,
    /// `0001-01-01T00:00:00`: .NET's unset date
    Minimum,
    /// Text that is not a date
    Unreadable,
    /// Milliseconds since 1970
    Number,
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DateName {
    /// `vettingCreateDate`
    Create,
    /// `vettingCreatedDate`
    Created,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absent {
    #[default]
    Omitted,
    Null,
    Blank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unqualified {
    /// One entry, whose qualification is `None`
    None,
    /// `null`
    Null,
    /// `{}`
    Braces,
    /// No body
    Empty,
    /// 204 and no body
    NoContent,
    /// 404 / 1000
    NotFound,
}

/// How the customer list is paged, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PaginationOptions {
    /// Maximum page size, whatever was requested.
    pub page_size: Option<usize>,
    pub continuation: Option<Continuation>,
    pub uri: Option<LinkUri>,
    /// Prefix that makes `links.next.uri` absolute: `https://elsewhere.example`.
    pub host: Option<String>,
    pub last_page: Option<LastPage>,
    /// The list ends after this many customers, as if it were complete.
    pub ends_after: Option<usize>,
    /// Share of the customers that is missing from the list, always the same ones.
    pub misses: Option<f64>,
    /// Share of the customers that is listed twice, always the same ones; the second time in upper case.
    pub twice: Option<f64>,
    /// Number of customers repeated from the previous page, as after an insertion.
    pub overlap: Option<usize>,
}

/// Where the continuation token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    #[default]
    Both,
    /// Only in `continuationToken`.
    Body,
    /// Only in the headers of `links.next`.
    Link,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkUri {
    /// `/v1/customers?…`
    #[default]
    V1,
    /// `/customers?…`
    Bare,
}

/// How the list ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastPage {
    /// Without a token.
    #[default]
    Clean,
    /// With a token that leads to an empty page.
    EmptyPage,
    /// With a token that leads to 400 / 2000.
    Error,
    /// With a token that leads to the first page again: the list never ends.
    Again,
}

/// How the activity log is written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditLogOptions {
    pub order: Option<Order>,
    /// Maximum page size, whatever was requested.
    pub page_size: Option<usize>,
    /// Records appear this long after their date.
    #[serde(with = "duration_serde::optional")]
    pub lag: Option<Duration>,
    pub without_ids: bool,
    /// Spelling of operation types; defaults to `update_customer_qualification`.
    pub words: Option<Keys>,
    /// `endDate` is exclusive.
    pub end_is_exclusive: bool,
}

/// Order of the records, which is undocumented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
    None,
}

/// How a response is sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TransportOptions {
    /// Compressed, if the client accepts it.
    pub gzip: bool,
    /// Defaults to a `Content-Length`.
    pub framing: Option<Framing>,
    /// Bytes per write; see `every`.
    pub drip: Option<usize>,
    /// Pause between writes or chunks. Defaults to none.
    #[serde(with = "duration_serde::optional")]
    pub every: Option<Duration>,
    /// Starts with a byte order mark.
    pub bom: bool,
    /// Replaces the content type; if empty, there is none.
    pub content_type: Option<String>,
    /// Omits or replaces `MS-RequestId` and `MS-CorrelationId`.
    pub ids: Option<Ids>,
}

/// How the end of a response is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    Chunked,
    /// HTTP/1.0 without a `Content-Length`: ends with the connection.
    Http10,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    None,
    /// Ids of the server's own.
    Other,
}
