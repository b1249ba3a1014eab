//! The words in which one says how answers are to be written, listed and sent. A field left out is as ever.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration_serde;

/// How a customer's qualifications are written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BodyOptions {
    pub shape: Option<Shape>,
    pub keys: Option<Keys>,
    /// Of qualification names and status words.
    pub words: Option<Words>,
    /// Left out: as the sample of the qualification and status has it.
    pub date: Option<DateFormat>,
    pub date_name: Option<DateName>,
    /// Dates are written so many seconds later than they are, as by another program; negative: earlier.
    pub date_shift: i64,
    /// No entry has a status.
    pub no_status: bool,
    /// What stands for a field that an entry does not have.
    pub absent: Option<Absent>,
    /// Entries have fields that nobody knows.
    pub unknown_fields: bool,
    /// What is answered about a customer without any entry. Left out: an empty list of the shape.
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
    /// `{…}`, where there is exactly one entry; else an array.
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
    /// The same, the day first
    PreviewDayFirst,
    /// `2020-12-03`
    DateOnly,
    /// `0001-01-01T00:00:00`: what .NET writes for a date that was never set
    Minimum,
    /// A text that is no date
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

/// How the customer list is cut into pages, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PaginationOptions {
    /// At most so many on a page, however many were asked for.
    pub page_size: Option<usize>,
    pub continuation: Option<Continuation>,
    pub uri: Option<LinkUri>,
    /// The beginning of an absolute `links.next.uri`: `https://elsewhere.example`.
    pub host: Option<String>,
    pub last_page: Option<LastPage>,
    /// The list ends after so many customers, as if there were no more.
    pub ends_after: Option<usize>,
    /// A share of the customers, always the same ones, is not listed.
    pub misses: Option<f64>,
    /// A share of the customers, always the same ones, is listed twice, the second time in capital letters.
    pub twice: Option<f64>,
    /// A page begins with so many of the page before, as when somebody is inserted meanwhile.
    pub overlap: Option<usize>,
}

/// Where the token of the next page is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    #[default]
    Both,
    /// In `continuationToken` alone.
    Body,
    /// In the headers of `links.next` alone.
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
    /// With a token that is answered by 400 / 2000.
    Error,
    /// With a token that leads to the first page again: the list never ends.
    Again,
}

/// How the activity log is written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditLogOptions {
    pub order: Option<Order>,
    /// At most so many on a page, however many were asked for.
    pub page_size: Option<usize>,
    /// Records appear so long after they are dated.
    #[serde(with = "duration_serde::optional")]
    pub lag: Option<Duration>,
    pub without_ids: bool,
    /// Of operation types; left out: `update_customer_qualification`.
    pub words: Option<Keys>,
    /// `endDate` is the first day that is left out, not the last that is shown.
    pub end_is_exclusive: bool,
}

/// In which order records come: no documentation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
    None,
}

/// How an answer goes over the wire.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TransportOptions {
    /// Packed, if the client takes it.
    pub gzip: bool,
    /// Left out: with a `Content-Length`.
    pub framing: Option<Framing>,
    /// So many bytes at a time; see `every`.
    pub drip: Option<usize>,
    /// The pause between two drips, or chunks. Left out: none.
    #[serde(with = "duration_serde::optional")]
    pub every: Option<Duration>,
    /// Begins with a byte order mark.
    pub bom: bool,
    /// Instead of the right one; an empty one: none at all.
    pub content_type: Option<String>,
    /// Without `MS-RequestId` and `MS-CorrelationId`, or with others than were sent.
    pub ids: Option<Ids>,
}

/// How the end of an answer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    Chunked,
    /// HTTP/1.0 without a `Content-Length`: it ends where the connection does.
    Http10,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    None,
    /// Those of the server.
    Other,
}
