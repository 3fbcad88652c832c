//! Mutual TLS between two Envoys: the same certificates, version and key exchange as Canopy's.
//!
//! No session is resumed on either side, as none is in the mesh: a new connection proves both identities.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{error::BenchError, subject::Setting};
use serde_json::{Value, json};

/// A workload's certificate, key and roots, and whom it accepts.
#[derive(Debug)]
pub(super) struct Papers {
    directory: PathBuf,
    peers: String,
}

impl Papers {
    /// Has them made by the authority of the run's daemons, for the app of a namespace; where they are, they are kept.
    pub(super) fn of(namespace: &str, setting: &Setting, directory: &Path) -> Result<Self, BenchError> {
        let directory = directory.join(format!("{namespace}-papers"));
        let identity = identity(namespace);
        if directory.join("tls.key").exists() {
            return Ok(Self { directory, peers: identity });
        }
        let mut command = Command::new(&setting.canopy);
        command.arg("certificate").arg("--identity").arg(&identity).arg("--out").arg(&directory);
        command.arg("--ca-dir").arg(setting.authority());
        let line = format!("{command:?}");
        let output = command.output().map_err(|e| BenchError::io(format!("run {line}"), e))?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(BenchError::Tool { command: line, output });
        }
        Ok(Self { directory, peers: identity })
    }

    /// For who connects.
    pub(super) fn upstream(&self, http2: bool) -> Value {
        json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "max_session_keys": 0,
            "common_tls_context": self.common(http2),
        } })
    }

    /// For who accepts.
    pub(super) fn downstream(&self) -> Value {
        json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
            "common_tls_context": self.common(true),
        } })
    }

    fn common(&self, http2: bool) -> Value {
        let file = |name: &str| json!({ "filename": self.directory.join(name) });
        json!({
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
                "ecdh_curves": ["X25519MLKEM768"],
            },
            "tls_certificates": [{ "certificate_chain": file("tls.crt"), "private_key": file("tls.key") }],
            "validation_context": {
                "trusted_ca": file("ca.crt"),
                "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": self.peers } }],
            },
            "alpn_protocols": if http2 { vec!["h2"] } else { Vec::new() },
        })
    }
}

/// Who the app of a namespace is.
pub(super) fn identity(namespace: &str) -> String {
    format!("{DOMAIN}ns/{namespace}/sa/app")
}

const DOMAIN: &str = "spiffe://cluster.local/";
