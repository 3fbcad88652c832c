//! One route more for a subject that has many: a file that lies ready beside those that the proxy reads, and where to move it.
//!
//! Both proxies read files and watch for what is moved to them. A route that is added must be one that was not there.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{CLIENTS, Kind, Manifests, Routes, Setting, envoy};
use crate::error::BenchError;

/// What makes a route appear.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    /// The file that lies ready.
    pub from: PathBuf,
    /// Where it is read.
    pub to: PathBuf,
    /// The number of the route.
    pub number: usize,
}

/// Lays a file ready that adds the route of this number, where all before it are there. Canopy's files hold what objects somebody
/// has put there; Envoy's is all of its routes.
pub(crate) fn lay_ready(kind: Kind, number: usize, setting: &Setting) -> Result<Change, BenchError> {
    let home = setting.directory.join(kind.place());
    let (text, to) = if kind.is_canopy() {
        let mut manifests = Manifests::default();
        manifests.route(CLIENTS, number);
        (manifests.text(), home.join("config").join(format!("more-{number}.yaml")))
    } else {
        (envoy::routes(number + 1), home.join(envoy::ROUTES))
    };
    let from = home.join(format!("ready-{number}"));
    fs::write(&from, text).map_err(|e| BenchError::io(format!("write {}", from.display()), e))?;
    Ok(Change { from, to, number })
}

/// Both subjects with so many routes.
pub(crate) fn subjects(routes: Routes) -> [Kind; 2] {
    [Kind::CanopyRouted(routes), Kind::EnvoyRouted(routes)]
}
