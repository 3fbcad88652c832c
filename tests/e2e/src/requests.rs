//! Requests from inside a pod, all of which have to be answered. Whoever wants to see a refusal asks by itself.

use std::net::SocketAddr;

use testkit::{Outcome, Pod, block_on, http::Connection};

/// Sends requests on one connection; all have to be answered with 200.
///
/// # Errors
/// The connection is not made or ends, or an answer is another.
pub fn ask(from: &Pod, to: SocketAddr, requests: u32) -> Outcome {
    from.run(|| {
        block_on(async {
            let mut connection = Connection::http1(to).await?;
            for _ in 0..requests {
                let answer = connection.get("any", "/").await?;
                if answer.status != 200 {
                    return Err(format!("{to}: {} {}", answer.status, answer.header("canopy-refused")).into());
                }
            }
            Ok(())
        })
    })?
}
