//! What the plugin says where it fails: the specification's error, by a code and in words that say what to do.

use serde_json::json;

/// Error codes (CNI specification 1.1, section 5, "Error"): 0 to 99 are the specification's, of which these are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// `1`: incompatible CNI version.
    Version = 1,
    /// `4`: invalid necessary environment variables; the message has their names.
    Environment = 4,
    /// `5`: I/O failure.
    Io = 5,
    /// `6`: content that cannot be decoded.
    Decode = 6,
    /// `7`: invalid network configuration.
    Network = 7,
    /// `11`: try again later. What the kubelet does in any case.
    TryAgain = 11,
}

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {details}")]
pub struct Failure {
    /// What kind of failure it is.
    pub code: Code,
    /// What happened.
    pub message: String,
    /// Why, and what to do.
    pub details: String,
}

impl Failure {
    /// A failure in words.
    pub fn new(code: Code, message: &str, details: impl ToString) -> Self {
        Self { code, message: message.to_owned(), details: details.to_string() }
    }

    /// As the specification has it, in the version that was asked in, or the newest.
    pub fn to_json(&self, version: Option<&str>) -> String {
        let version = version.unwrap_or(super::network::NEWEST);
        let Self { code, message, details } = self;
        // The kubelet shows the message alone, so the details are in it, too.
        let message = format!("canopy: {message}: {details}");
        json!({"cniVersion": version, "code": *code as u32, "msg": message, "details": details}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_the_specifications_error_in_the_version_that_was_asked_in() {
        let failure = Failure::new(Code::TryAgain, "no", "wait");
        let json: serde_json::Value = serde_json::from_str(&failure.to_json(Some("0.4.0"))).unwrap();
        let expected =
            json!({"cniVersion": "0.4.0", "code": 11, "msg": "canopy: no: wait", "details": "wait"});
        assert_eq!(json, expected);
        let json: serde_json::Value = serde_json::from_str(&failure.to_json(None)).unwrap();
        assert_eq!(json["cniVersion"], super::super::network::NEWEST);
    }
}
