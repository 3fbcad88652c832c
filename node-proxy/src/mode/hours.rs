//! Reads the ledgers into hourly rows, and keeps those in a file, if one was named.
//!
//! A row is a line of JSON, appended when its hour is over and when the daemon ends: one that is killed loses at most the open
//! hour. The file is opened for each append, so it may be rotated. It must never hold up anything but operators' questions.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    forest::{ForestHandle, costs::TenantCosts},
    tenancy::showback::{Amounts, Book, Hour, Reading},
};

/// How often ledgers are read: what a cell did that began and ended in between is lost, and an hour is this much blurred.
const LOOK: Duration = Duration::from_secs(5);

/// The rows, shared between who writes and who shows them.
#[derive(Debug, Clone, Default)]
pub struct Hours {
    book: Arc<Mutex<Book>>,
    file: Option<PathBuf>,
}

impl Hours {
    /// With the rows that the file has, if it is there.
    pub fn open(file: Option<PathBuf>) -> io::Result<Self> {
        let hours = Self { book: Arc::default(), file };
        let Some(path) = &hours.file else { return Ok(hours) };
        let reader = match File::open(path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(hours),
            Err(error) => return Err(error),
        };
        let mut broken = 0;
        // As bytes: what is torn may have been torn within a character.
        for line in reader.split(b'\n') {
            match serde_json::from_slice(&line?) {
                Ok(row) => hours.book().remember(row),
                // The last one of a daemon that was killed while it wrote.
                Err(_) => broken += 1,
            }
        }
        if broken > 0 {
            tracing::warn!(broken, path = %path.display(), "lines of the showback file cannot be read");
        }
        Ok(hours)
    }

    /// Reads the forest's ledgers for as long as it is polled.
    pub async fn follow(self, forest: ForestHandle) {
        loop {
            self.look(&forest);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads the ledgers a last time, and writes what is open.
    pub fn end(&self, forest: &ForestHandle) {
        self.look(forest);
        let rows = self.book().close();
        self.keep(&rows);
    }

    /// Rows from the hour of `since` on.
    pub fn since(&self, since: u64, tenant: Option<&str>) -> Vec<Hour> {
        self.book().since(since, tenant)
    }

    fn look(&self, forest: &ForestHandle) {
        let costs = forest.costs(None);
        let over = self.book().read(costs.at, costs.tenants.into_iter().map(reading));
        self.keep(&over);
    }

    fn keep(&self, rows: &[Hour]) {
        let Some(path) = self.file.as_ref().filter(|_| !rows.is_empty()) else { return };
        let line = |row: &Hour| serde_json::to_string(row).map(|line| line + "\n").unwrap_or_default();
        let text: String = rows.iter().map(line).collect();
        if let Err(error) = append(path, text) {
            tracing::warn!(%error, path = %path.display(), rows = rows.len(), "an hour's rows are not in the showback file");
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends whole lines; where the file ends within one, after its end.
fn append(path: &Path, mut lines: String) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            lines.insert(0, '\n');
        }
    }
    file.write_all(lines.as_bytes())
}

fn reading(costs: TenantCosts) -> (String, Reading) {
    let used = &costs.used;
    let total = Amounts {
        cpu_user_seconds: costs.cpu_user_seconds,
        cpu_system_seconds: costs.cpu_system_seconds,
        throttled_seconds: costs.throttled_seconds,
        connections: used.connections,
        requests: used.requests,
        bytes_received: used.bytes_received,
        bytes_sent: used.bytes_sent,
        handshakes: used.handshakes_made.saturating_add(used.handshakes_accepted),
        refused: used.refused(),
    };
    let memory = [used.memory_bytes, costs.memory_cached_bytes, costs.socket_bytes];
    let memory_bytes = memory.into_iter().fold(0, u64::saturating_add);
    (costs.tenant, Reading { total, memory_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(hour: u64) -> Hour {
        Hour { hour, tenant: "shop".to_owned(), ..Hour::default() }
    }

    #[test]
    fn rows_are_in_the_file_for_the_next_daemon_and_a_torn_line_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("showback.jsonl");
        let hours = Hours::open(Some(path.clone())).unwrap();
        hours.keep(&[row(3600), row(7200)]);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"hour\": 9").unwrap();
        let next = Hours::open(Some(path)).unwrap();
        assert_eq!(next.since(0, None).iter().map(|row| row.hour).collect::<Vec<_>>(), [3600, 7200]);
        assert!(Hours::open(Some(directory.path().join("none"))).is_ok());
        assert!(Hours::open(Some(directory.path().to_owned())).is_err(), "a directory is no file");
    }

    #[test]
    fn a_row_after_a_torn_line_is_a_line_of_its_own_wherever_that_was_torn() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("showback.jsonl");
        // Within a character of two bytes.
        std::fs::write(&path, b"{\"hour\": 3600, \"tenant\": \"\xc3").unwrap();
        let hours = Hours::open(Some(path.clone())).unwrap();
        hours.keep(&[row(7200)]);
        hours.keep(&[row(10_800)]);
        let next = Hours::open(Some(path.clone())).unwrap();
        assert_eq!(next.since(0, None).iter().map(|row| row.hour).collect::<Vec<_>>(), [7200, 10_800]);
        let lines = std::fs::read(&path).unwrap().iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, 3, "one for each, and the end of the torn one");
    }
}
