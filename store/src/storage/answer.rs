//! Reads the error answer of a store: the HTTP status, and the code in the body. It reads nothing
//! else, because the rest of a message may contain names that users chose. This module does not
//! decide what the answer means.

use std::error::Error;

/// The beginning of the client's message about an unsuccessful answer. The status and the body
/// follow. One error in the chain has exactly this message.
const NO_SUCCESS: &str = "Server returned non-2xx status code: ";

/// The beginning of the client's message if a body reports a failure although the status is
/// successful.
const SUCCESS_THAT_FAILED: &str = "Server returned error response: ";

/// The beginning of the client's message if one removal of many failed. Key, message and
/// `(code: …)` follow.
const REMOVAL: &str = "DeleteObjects request failed for key ";

/// The beginning of the client's message about a failed request. Method and address follow.
const REQUEST: &str = "Error performing ";

/// A store's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status, such as 403.
    pub(super) status: u16,
    /// The status with its name, such as `403 Forbidden`.
    pub(super) status_text: String,
    /// The error code, such as `AccessDenied`.
    pub(super) code: Option<String>,
    /// The error message.
    pub(super) message: Option<String>,
    /// The unchanged body.
    pub(super) body: String,
}

impl Answer {
    /// Returns the answer that an error contains, if it contains one.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        chain(error).find_map(|error| {
            let text = error.to_string();
            if let Some(answer) = text.strip_prefix(NO_SUCCESS) {
                let (status, body) = answer.split_once(": ").unwrap_or((answer, ""));
                return Some(Self::new(status, body));
            }
            if let Some(body) = text.strip_prefix(SUCCESS_THAT_FAILED) {
                return Some(Self::new("200 OK", body));
            }
            let removal = text.strip_prefix(REMOVAL)?.strip_suffix(')')?;
            let (_, code) = removal.rsplit_once(" (code: ")?;
            Some(Self {
                code: Some(code.to_owned()),
                ..Self::new("200 OK", "")
            })
        })
    }

    fn new(status_text: &str, body: &str) -> Self {
        let status = status_text.split(' ').next().unwrap_or_default();
        let said = Said::read(body);
        Self {
            status: status.parse().unwrap_or_default(),
            status_text: status_text.trim().to_owned(),
            code: said.code,
            message: said.message,
            body: body.to_owned(),
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => write!(f, "{} {code}: {message}", self.status),
            (Some(code), None) => write!(f, "{} {code}", self.status),
            (None, _) => f.write_str(&self.status_text),
        }
    }
}

/// The error code and message in a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// See [`Answer`].
    pub(super) code: Option<String>,
    /// See [`Answer`].
    pub(super) message: Option<String>,
}

impl Said {
    /// Reads a body in the XML of S3, Google and Azure, or in the JSON of Google and of token
    /// services. For any other body, the result is empty.
    pub(super) fn read(body: &str) -> Self {
        let body = body.trim_start_matches('\u{feff}').trim_start();
        if body.starts_with('{') {
            return Self::read_json(body);
        }
        if !is_xml_error(body) {
            return Self::default();
        }
        Self {
            code: element(body, "Code"),
            message: element(body, "Message"),
        }
    }

    fn read_json(body: &str) -> Self {
        let Ok(body) = serde_json::from_str::<serde_json::Value>(body) else {
            return Self::default();
        };
        let text = |value: Option<&serde_json::Value>| Some(value?.as_str()?.to_owned());
        let error = body.get("error");
        let of_error = |key: &str| error.and_then(|error| error.get(key));
        let reason = of_error("errors").and_then(|all| all.get(0)?.get("reason"));
        Self {
            code: text(reason)
                .or_else(|| text(of_error("code")))
                .or_else(|| text(error)),
            message: text(of_error("message")).or_else(|| text(body.get("error_description"))),
        }
    }
}

/// Whether the outermost element of a body is an error.
pub(super) fn is_xml_error(body: &str) -> bool {
    let body = body.trim_start_matches('\u{feff}').trim_start();
    let body = match body.strip_prefix("<?") {
        Some(declaration) => declaration.split_once("?>").map_or("", |(_, rest)| rest),
        None => body,
    };
    let root = body.trim_start().strip_prefix('<').unwrap_or_default();
    let name = root.split(|c: char| !c.is_ascii_alphanumeric()).next();
    matches!(name, Some("Error" | "ErrorResponse"))
}

/// Returns the text of the first element with this name. The text of other elements contains no
/// `<`, so a name that a user chose is never mistaken for an element.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.trim();
    (!text.is_empty()).then(|| {
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&apos;", "'")
            .replace("&amp;", "&")
    })
}

/// Returns the host to which a failed request was sent.
pub(super) fn host_of(error: &(dyn Error + 'static)) -> Option<String> {
    chain(error).find_map(|error| {
        let text = error.to_string();
        let mut words = text.strip_prefix(REQUEST)?.split(' ');
        let method = words.next()?;
        if method.is_empty() || !method.chars().all(|c| c.is_ascii_uppercase()) {
            return None;
        }
        let (_, rest) = words.next()?.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host);
        Some(host.to_owned())
    })
}

/// Returns an error and its causes, from the outermost one inwards.
pub(super) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, message: &str) -> Said {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Said {
            code: some(code),
            message: some(message),
        }
    }

    #[test]
    fn code_and_message_are_read_from_what_each_store_sends() {
        for (body, expected) in [
            (
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>a &lt;b&gt; &amp;amp;</Message><Key>SlowDown</Key></Error>",
                said("NoSuchKey", "a <b> &amp;"),
            ),
            (
                "\u{feff}<?xml version=\"1.0\"?><Error><Code>ServerBusy</Code><Message>M\nRequestId:1</Message></Error>",
                said("ServerBusy", "M\nRequestId:1"),
            ),
            (
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/\"><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code></Error></ErrorResponse>",
                said("InvalidIdentityToken", ""),
            ),
            (
                r#"{"error":{"code":429,"message":"Slow.","errors":[{"reason":"rateLimitExceeded"}]}}"#,
                said("rateLimitExceeded", "Slow."),
            ),
            (
                r#"{"error":{"code":"AuthenticationFailed","message":"M"}}"#,
                said("AuthenticationFailed", "M"),
            ),
            (
                r#"{"error":"invalid_client","error_description":"AADSTS7"}"#,
                said("invalid_client", "AADSTS7"),
            ),
            ("<html><Code>SlowDown</Code></html>", said("", "")),
            ("<ErrorPage><Code>SlowDown</Code></ErrorPage>", said("", "")),
            (
                "<CompleteMultipartUploadResult><Key>Error</Key></CompleteMultipartUploadResult>",
                said("", ""),
            ),
            ("<Code>SlowDown</Code>", said("", "")),
            ("SlowDown", said("", "")),
            ("{", said("", "")),
            ("", said("", "")),
        ] {
            assert_eq!(Said::read(body), expected, "{body}");
        }
    }
}
