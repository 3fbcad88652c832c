//! The access log of a test's cells, in a file of its own.

use config::name::TenantId;
use serde_json::Value;

use super::{
    tunnels::Pair,
    world::{World, namespace},
};
use crate::telemetry::{
    AccessLog,
    access::{Target, Writer},
};

pub(super) struct Log {
    file: tempfile::NamedTempFile,
    writer: Writer,
}

impl Log {
    pub(super) fn new() -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Writer::start(Target::File(file.path().to_owned())).unwrap();
        Self { file, writer }
    }

    /// For one cell to write to.
    pub(super) fn for_cell(&self) -> AccessLog {
        self.writer.for_cell(&TenantId::Namespace(namespace()))
    }

    /// All lines so far of the cell that writes to it. Ends the log.
    pub(super) fn lines(self, world: &World) -> Vec<Value> {
        world.cell.access_log.flush();
        drop(self.writer);
        let text = std::fs::read_to_string(self.file.path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// As [`Log::lines`], of the only line.
    pub(super) fn line(self, world: &World) -> Value {
        let lines = self.lines(world);
        let [line] = &lines[..] else { panic!("not one line: {lines:#?}") };
        line.clone()
    }
}

/// A caller's cell and a callee's, each with its log.
pub(super) async fn logged_pair() -> (Pair, Log, Log) {
    let logs = [Log::new(), Log::new()];
    let pair = Pair::logging([logs[0].for_cell(), logs[1].for_cell()]).await;
    let [caller, callee] = logs;
    (pair, caller, callee)
}
